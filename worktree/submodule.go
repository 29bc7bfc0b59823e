package worktree

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// submodule finds what is checked out at a gitlink. No git runs in it and none of its configuration is read: a job with
// --live can write its .git. So a git directory is trusted only where no job reaches, in the
// repository's own; from one that lies in the files themselves only names are taken, and from anywhere else nothing.
func (r *Repo) submodule(parent source, path string) (source, bool) {
	s := source{root: filepath.Join(parent.root, path), prefix: parent.prefix + path + "/"}
	if real, err := filepath.EvalSymlinks(s.root); err != nil || real != s.root {
		return source{}, false
	}
	dotGit := filepath.Join(s.root, ".git")
	info, err := os.Lstat(dotGit)
	if err != nil {
		// Files without a .git belong to the parent, which has found them.
		return source{}, false
	}
	if info.IsDir() {
		s.gitDir, s.exclude = dotGit, readSmall(filepath.Join(dotGit, "info/exclude"))
		return s, true
	}
	if dir := r.moduleDir(dotGit); dir != "" {
		s.gitDir, s.objects = dir, filepath.Join(dir, "objects")
		s.exclude = readSmall(filepath.Join(dir, "info/exclude"))
	}
	return s, true
}

// moduleDir is where a submodule's .git file points, "" when that is not below the repository's own git directory.
func (r *Repo) moduleDir(dotGit string) string {
	dir, ok := strings.CutPrefix(strings.TrimSpace(readSmall(dotGit)), "gitdir: ")
	if !ok {
		return ""
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(dotGit), dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || real == r.commonDir || !inside(real, r.commonDir) {
		return ""
	}
	return real
}

// headCommit reads HEAD of a git directory without git, "" when it has no commit.
func headCommit(gitDir string, hashSize int) string {
	if gitDir == "" {
		return ""
	}
	id := strings.TrimSpace(readSmall(filepath.Join(gitDir, "HEAD")))
	if ref, ok := strings.CutPrefix(id, "ref: "); ok {
		if !filepath.IsLocal(ref) {
			return ""
		}
		id = strings.TrimSpace(readSmall(filepath.Join(gitDir, ref)))
		for line := range strings.Lines(readSmall(filepath.Join(gitDir, "packed-refs"))) {
			if packed, ok := strings.CutSuffix(strings.TrimSpace(line), " "+ref); ok && id == "" {
				id = packed
			}
		}
	}
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != hashSize {
		return ""
	}
	return id
}
