package worktree

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// gitDir is what a git directory of berth's own is made of.
type gitDir struct {
	head       string   // contents of HEAD
	config     []string // from configLine and section
	exclude    string   // info/exclude
	attributes string   // info/attributes
}

// rawAttributes beat every .gitattributes file: files are stored and checked out byte for byte,
// and no filter is run.
const rawAttributes = "* -text -eol -crlf -filter -ident -working-tree-encoding -diff -merge\n"

// make writes a git directory at path, which may exist when it is empty.
func (g gitDir) make(path string) error {
	for _, d := range []string{"objects/info", "objects/pack", "refs/heads", "refs/tags", "info"} {
		if err := os.MkdirAll(filepath.Join(path, d), 0o700); err != nil {
			return err
		}
	}
	files := [][2]string{
		{"HEAD", g.head + "\n"}, {"config", strings.Join(g.config, "")},
		{"info/exclude", g.exclude}, {"info/attributes", g.attributes},
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(path, f[0]), []byte(f[1]), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func section(name, sub string) string {
	if sub == "" {
		return "[" + name + "]\n"
	}
	return "[" + name + " \"" + configQuoter.Replace(sub) + "\"]\n"
}

// configQuoter makes text safe between double quotes in a git configuration file.
var configQuoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`)

func configLine(key, value string) string {
	return "\t" + key + " = \"" + configQuoter.Replace(value) + "\"\n"
}

// formatConfig is the part of a configuration that says how objects are named.
func formatConfig(format string, bare bool) []string {
	version, ext := "0", []string(nil)
	if format != "sha1" {
		version = "1"
		ext = []string{section("extensions", ""), configLine("objectFormat", format)}
	}
	return append(ext, section("core", ""), configLine("repositoryFormatVersion", version), configLine("bare", fmt.Sprint(bare)))
}

// coreKeys are the settings that say how the file system and git see the same files.
var coreKeys = [...]string{"core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode", "core.trustctime", "core.checkstat"}

// config is a user's configuration as `git config --list -z` prints it: lower-case section and key, last value last.
type config map[string][]string

func parseConfig(out []byte) config {
	c := config{}
	for _, rec := range splitZ(out) {
		key, value, ok := strings.Cut(rec, "\n")
		if !ok {
			value = "true"
		}
		c[key] = append(c[key], value)
	}
	return c
}

func (c config) get(key string) string {
	if v := c[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// core are the user's settings of coreKeys as key=value.
func (c config) core() []string {
	var out []string
	for _, k := range coreKeys {
		if v := c.get(k); v != "" {
			out = append(out, k+"="+v)
		}
	}
	return out
}

// forJob is the configuration of a job's private git directory: what makes git answer as on the user's
// side, and nothing that holds a secret or starts a program.
func (c config) forJob(format string) []string {
	out := formatConfig(format, false)
	for _, k := range slices.Concat(coreKeys[:], []string{"core.autocrlf", "core.eol", "core.safecrlf", "core.abbrev", "core.quotepath"}) {
		if v := c.get(k); v != "" {
			out = append(out, configLine(strings.TrimPrefix(k, "core."), v))
		}
	}
	out = append(out, configLine("logAllRefUpdates", "true"))
	for _, k := range []string{"user.name", "user.email", "init.defaultbranch", "status.showuntrackedfiles"} {
		if v := c.get(k); v != "" {
			s, name, _ := strings.Cut(k, ".")
			out = append(out, section(s, ""), configLine(name, v))
		}
	}
	var keys []string
	for k := range c {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		first, last := strings.Index(k, "."), strings.LastIndex(k, ".")
		if first == last {
			continue
		}
		s, sub, name := k[:first], k[first+1:last], k[last+1:]
		switch s + "." + name {
		case "remote.url", "remote.pushurl":
			for _, v := range c[k] {
				out = append(out, section(s, sub), configLine(name, withoutCredentials(v)))
			}
		case "remote.fetch", "remote.tagopt", "branch.remote", "branch.merge", "branch.rebase":
			for _, v := range c[k] {
				out = append(out, section(s, sub), configLine(name, v))
			}
		}
	}
	return out
}

// withoutCredentials takes passwords, and user names that may be tokens, out of a remote's URL.
func withoutCredentials(remote string) string {
	scheme, rest, ok := strings.Cut(remote, "://")
	if !ok {
		return remote // user@host:path or a path: neither can hold a password
	}
	// Not url.Parse for the cut: a password may hold characters that it refuses.
	authority, path, slash := strings.Cut(rest, "/")
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, _, _ := strings.Cut(authority[:at], ":")
		authority = authority[at+1:]
		if strings.Contains(scheme, "ssh") {
			authority = user + "@" + authority
		}
	}
	if slash {
		path = "/" + path
	}
	if u, err := url.Parse(scheme + "://" + authority + path); err == nil && u.RawQuery != "" {
		u.RawQuery = ""
		return u.String()
	}
	return scheme + "://" + authority + path
}

// alternates are the object stores that the store at objects borrows from, itself first, each once and
// without symbolic links. git follows at most five levels; so does this.
func alternates(objects string) ([]string, error) {
	var out []string
	var walk func(dir string, depth int) error
	walk = func(dir string, depth int) error {
		real, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if slices.Contains(out, real) || depth > 5 {
			return nil
		}
		out = append(out, real)
		for line := range strings.Lines(readSmall(filepath.Join(real, "info/alternates"))) {
			line = strings.TrimSuffix(line, "\n")
			if line == "" || line[0] == '#' {
				continue
			}
			if !filepath.IsAbs(line) {
				line = filepath.Join(real, line)
			}
			if err := walk(line, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return out, walk(objects, 0)
}
