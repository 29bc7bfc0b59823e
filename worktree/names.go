package worktree

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// badName says why a path of a job's may not be in a tree, "" when it may. git refuses the same names in its own checks, since
// some file system takes them for .git; older ones of its commands do not check.
func badName(path string, link bool) string {
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "" || part == "." || part == "..", strings.ContainsRune(part, 0):
			return "has a name that means another place"
		case isDotGit(part):
			return "has a name that means .git on some file systems"
		}
	}
	if link && isGitmodules(path[strings.LastIndexByte(path, '/')+1:]) {
		return "is a symbolic link, which git does not allow for .gitmodules"
	}
	return ""
}

// isDotGit says whether HFS+ or NTFS takes a name for .git.
func isDotGit(name string) bool {
	if hfsFold(name) == ".git" {
		return true
	}
	// A backslash separates directories on NTFS, a colon begins the name of a stream.
	for part := range strings.SplitSeq(name, `\`) {
		part, _, _ = strings.Cut(part, ":")
		switch strings.ToLower(strings.TrimRight(part, " .")) {
		case ".git", "git~1":
			return true
		}
	}
	return false
}

// isGitmodules says whether HFS+ or NTFS takes a name for .gitmodules.
func isGitmodules(name string) bool {
	if hfsFold(name) == ".gitmodules" {
		return true
	}
	name, _, _ = strings.Cut(name, ":")
	name = strings.ToLower(strings.TrimRight(name, " ."))
	return name == ".gitmodules" || strings.HasPrefix(name, "gitmod~") || strings.HasPrefix(name, "gi7eba~")
}

// hfsFold is a name as HFS+ compares it: without the characters that it ignores, and without case.
func hfsFold(name string) string {
	if !utf8.ValidString(name) {
		return name
	}
	return strings.Map(func(c rune) rune {
		if c >= 0x200c && c <= 0x200f || c >= 0x202a && c <= 0x202e || c >= 0x206a && c <= 0x206f || c == 0xfeff {
			return -1
		}
		return unicode.ToLower(c)
	}, name)
}

// quoteC is a path between double quotes as git's own files and streams have it.
func quoteC(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(path) {
		switch c := path[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c == 0x7f:
			b.WriteByte('\\')
			b.WriteString(strconv.FormatInt(int64(c)+01000, 8)[1:]) // three digits
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// quotePath is a path for people: as it is, unless it would not fit on a line.
func quotePath(path string) string {
	if q := strconv.Quote(path); q != `"`+path+`"` {
		return q
	}
	return path
}
