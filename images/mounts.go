package images

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Mount is a bind mount that a job's container needs. Source exists and has no symbolic link in it.
type Mount struct {
	Source   string // absolute path on the host
	Target   string // absolute path in the container
	ReadOnly bool   // always true for what HostMounts returns
}

// hostTrees are the directories of programs. Those of rootDirs are added where they are real directories.
var hostTrees = []string{"/usr", "/opt"}

// hostEtc names, by glob below /etc, the configuration that programs under /usr read or that links in /usr lead to.
// To be on the list, a file must hold no secret on any machine. So /etc/ssl is not mounted whole (private/), nor
// are maven's settings.xml, npmrc, pip.conf and gitconfig (tokens), profile and profile.d (tokens, and a login shell
// would reset PATH). passwd and group are rendered by Passwd; nsswitch.conf is part of the image.
var hostEtc = []string{
	// the dynamic linker, and Debian's choice of programs
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives",
	// certificates of authorities: Debian, Fedora, Arch, Alpine
	"ssl/certs", "ssl/openssl.cnf", "ssl/cert.pem", "ca-certificates", "ca-certificates.conf",
	"pki/ca-trust/extracted", "pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "pki/java", "crypto-policies",
	// time, names of things, the distribution
	"localtime", "timezone", "locale.alias", "mime.types", "magic", "magic.mime", "services", "protocols", "rpc",
	"host.conf", "gai.conf", "debian_version", "lsb-release", "redhat-release", "system-release", "alpine-release",
	"arch-release", "dpkg/origins",
	// languages and libraries
	"python3*", "java", "java-*", "maven/m2.conf", "maven/logging", "perl", "R", "php", "texmf", "xml", "sgml",
	"fonts", "papersize", "terminfo", "inputrc", "glvnd", "OpenCL", "openmpi", "ImageMagick-*",
}

// hostVar is what distributions keep below /var/lib although programs under /usr need it to work.
var hostVar = []string{"/var/lib/texmf", "/var/lib/ghc", "/var/lib/gems"}

// HostMounts lists what the host image needs of this machine, all of it read-only: /usr, /opt, chosen files of
// /etc, and the toolchains that the PATH of env names below home (an absolute path; "" for none) and in a few other
// known places. env is the caller's whole environment, as of os.Environ. What does not exist is left out. Sorted by
// target, parents first.
//
// Targets below home are made by the engine, parents too and as root: a home directory mounted there by the caller
// should hold those parents (~/.cargo for ~/.cargo/bin) already, or the user cannot write to them.
func HostMounts(home string, env []string) ([]Mount, error) {
	if runtime.GOOS != "linux" {
		return nil, &PlatformError{Ref: Host, OS: runtime.GOOS, Arch: runtime.GOARCH}
	}
	mounts, err := hostMounts(home, env)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.Target, "/etc/") {
			mounts = append(mounts, masks(m)...)
		}
	}
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("host mounts: %w", err)
	}
	defer info.Close()
	points, err := writableMounts(info)
	if err != nil {
		return nil, fmt.Errorf("host mounts: %w", err)
	}
	for _, point := range points {
		mounts = append(mounts, remounts(mounts, point, home)...)
	}
	// Stable, and the engine refuses a target that is given twice.
	slices.SortStableFunc(mounts, func(a, b Mount) int { return strings.Compare(a.Target, b.Target) })
	return slices.CompactFunc(mounts, func(a, b Mount) bool { return a.Target == b.Target }), nil
}

// hostMounts is HostMounts without the mounts that only protect, which is enough to tell what a job can see.
func hostMounts(home string, env []string) ([]Mount, error) {
	if home != "" && !filepath.IsAbs(home) {
		return nil, fmt.Errorf("host mounts: home %q is not an absolute path", home)
	}
	var mounts []Mount
	add := func(target string) {
		if m, ok := bind(target); ok {
			mounts = append(mounts, m)
		}
	}
	for _, tree := range hostTrees {
		add(tree)
	}
	for _, name := range rootDirs {
		if info, err := os.Lstat("/" + name); err == nil && info.IsDir() { // as a link it is part of the image
			add("/" + name)
		}
	}
	for _, pattern := range hostEtc {
		for _, path := range glob("/etc/" + pattern) {
			add(path)
		}
	}
	for _, path := range hostVar {
		add(path)
	}
	for _, path := range toolchainPaths(home, env) {
		add(path)
	}
	return mounts, nil
}

// bind makes the mount that puts a host path at the same place. The source is resolved, because a link that is
// mounted by name would be followed by the engine, which may see other links.
func bind(path string) (Mount, bool) {
	source, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Mount{}, false
	}
	info, err := os.Stat(source)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return Mount{}, false
	}
	return Mount{Source: source, Target: path, ReadOnly: true}, true
}

// below returns path relative to dir when path is dir or lies in it.
func below(dir, path string) (rel string, ok bool) {
	if dir == path {
		return ".", true
	}
	return strings.CutPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func within(dir, path string) bool {
	_, ok := below(dir, path)
	return ok
}

// glob is filepath.Glob for the tables here, whose patterns are all well-formed.
func glob(pattern string) []string {
	paths, _ := filepath.Glob(pattern)
	return paths
}

// masks covers the files of a mount that not everybody may read, such as a key that somebody left among the
// certificates: a job of root could read them, without any capability.
func masks(m Mount) []Mount {
	var hidden []Mount
	_ = filepath.WalkDir(m.Source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // what we cannot list, a job of ours cannot list either
		}
		info, err := entry.Info()
		if rel, ok := below(m.Source, path); err == nil && ok && info.Mode().Perm()&0o004 == 0 {
			hidden = append(hidden, Mount{Source: "/dev/null", Target: filepath.Join(m.Target, rel), ReadOnly: true})
		}
		return nil
	})
	return hidden
}

// remounts shows a writable mount point of the host again, read-only, wherever it appears in mounts. Engines
// before 25 make a bind mount read-only without the mounts below it, so a separate /usr/local would be writable.
// A home below /usr or /opt is not shown again: the caller mounts a private one over it.
func remounts(mounts []Mount, point, home string) []Mount {
	var again []Mount
	for _, m := range mounts {
		rel, ok := below(m.Source, point)
		if !ok || rel == "." {
			continue
		}
		target := filepath.Join(m.Target, rel)
		if home != "" && within(home, target) && !within(home, m.Target) {
			continue
		}
		again = append(again, Mount{Source: point, Target: target, ReadOnly: true})
	}
	return again
}

// writableMounts reads the mount points from a mountinfo file (proc_pid_mountinfo(5)) that are not mounted
// read-only. FUSE and autofs are left out: root may be unable to bind them, which would fail the job.
func writableMounts(mountinfo io.Reader) ([]string, error) {
	data, err := io.ReadAll(mountinfo)
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		front, back, ok := strings.Cut(line, " - ")
		fields := strings.Fields(front)
		if !ok || len(fields) < 6 || !slices.Contains(strings.Split(fields[5], ","), "rw") {
			continue
		}
		if strings.HasPrefix(back, "fuse") || strings.HasPrefix(back, "autofs") {
			continue
		}
		points = append(points, unescapeOctal(fields[4]))
	}
	slices.Sort(points)
	return slices.Compact(points), nil
}

// unescapeOctal undoes the kernel's \040 for space, tab, newline and backslash.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
