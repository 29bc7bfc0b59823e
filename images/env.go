package images

import (
	"path/filepath"
	"slices"
	"strings"
)

// DefaultPath is the PATH where neither image nor caller has one: Docker's.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// everywhere holds in any image. LC_* is added by prefix.
var everywhere = []string{
	"LANG", "LANGUAGE", "TZ",
	"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
	"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
}

// placed are variables whose value is a path, or several with colons between, and which pass when a job can see all
// of them: roots of toolchains beside those of the table, and certificates of authorities.
var placed = []string{
	"JAVA_HOME", "GOROOT", "M2_HOME", "MAVEN_HOME", "GRADLE_HOME", "KOTLIN_HOME", "CONDA_PREFIX", "ASDF_DIR",
	"NVM_BIN", "NVM_INC", "RUSTUP_HOME",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
	"GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO", "DENO_CERT", "BUNDLE_SSL_CA_CERT", "AWS_CA_BUNDLE",
	"HTTPLIB2_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
}

// Env picks from env what a job in any image gets of the caller's environment: LANG, LANGUAGE, LC_*, TZ and the
// proxy variables, as KEY=VALUE. The order is that of env; of a variable given twice the last is kept.
func Env(env []string) []string {
	return pick(env, func(key, _ string) bool {
		return strings.HasPrefix(key, "LC_") || slices.Contains(everywhere, key)
	})
}

// HostEnv picks from env what a job in the host image gets: what Env picks, PATH (with a default), and the
// variables that name toolchains or certificates, when what they name lies in a place that HostMounts mounts, with
// the HOME of env. PATH passes whole: what it names outside those places, such as a virtual environment, may be in the
// job's workspace.
func HostEnv(env []string) []string {
	vars := lookup(env)
	home := vars["HOME"]
	if !filepath.IsAbs(home) {
		home = ""
	}
	mounts, err := hostMounts(home, env)
	if err != nil {
		mounts = nil // only for a relative home, which was dropped
	}
	seen := func(path string) bool {
		return filepath.IsAbs(path) && slices.ContainsFunc(mounts, func(m Mount) bool {
			return within(m.Target, filepath.Clean(path))
		})
	}
	names := slices.Clone(placed)
	for _, t := range toolchains {
		names = append(names, t.variable)
	}
	picked := pick(env, func(key, value string) bool {
		switch {
		case strings.HasPrefix(key, "LC_") || slices.Contains(everywhere, key):
			return true
		case key == "PATH":
			return value != ""
		case key == "" || !slices.Contains(names, key):
			return false
		}
		return !slices.ContainsFunc(filepath.SplitList(value), func(path string) bool { return !seen(path) })
	})
	if vars["PATH"] == "" {
		picked = append(picked, "PATH="+DefaultPath)
	}
	return picked
}

// pick keeps the variables that want says yes to.
func pick(env []string, want func(key, value string) bool) []string {
	vars := lookup(env)
	var picked []string
	for _, entry := range env {
		key, value, ok := strings.Cut(entry, "=")
		if ok && vars[key] == value && want(key, value) && !slices.Contains(picked, entry) {
			picked = append(picked, entry)
		}
	}
	return picked
}

// lookup is the environment as a map; the last of several wins, as in a child process of Go.
func lookup(env []string) map[string]string {
	vars := make(map[string]string, len(env))
	for _, entry := range env {
		if key, value, ok := strings.Cut(entry, "="); ok {
			vars[key] = value
		}
	}
	return vars
}
