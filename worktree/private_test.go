package worktree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What people do with git works in a job, whatever the repository is like, and leaves the user's untouched.
func TestGitOfEveryRepository(t *testing.T) {
	history := func(u user) {
		u.write("dir/a", "one\ntwo\n")
		u.write("b", "b\n")
		u.commit()
		u.git("tag", "-a", "v1", "-m", "v1")
		u.git("branch", "other")
		u.write("dir/a", "one\ntwo\nthree\n")
		u.commit()
	}
	cases := map[string]func(t *testing.T) user{
		"plain":  func(t *testing.T) user { u := newUser(t); history(u); return u },
		"sha256": func(t *testing.T) user { u := newUser(t, "--object-format=sha256"); history(u); return u },
		"packed": func(t *testing.T) user {
			u := newUser(t)
			history(u)
			u.git("gc", "-q", "--prune=now")
			u.git("pack-refs", "--all")
			return u
		},
		"linked worktree": func(t *testing.T) user {
			u := newUser(t)
			history(u)
			linked := user{t, u.root + " linked"}
			u.git("worktree", "add", "-q", "-b", "side", linked.root)
			return linked
		},
		"alternates": func(t *testing.T) user {
			u := newUser(t)
			history(u)
			clone := user{t, u.root + " clone"}
			u.git("clone", "-q", "--shared", u.root, clone.root)
			clone.git("branch", "other", "v1")
			return clone
		},
		"separate git directory": func(t *testing.T) user {
			u := newUser(t)
			history(u)
			u.git("init", "-q", "--separate-git-dir", u.root+" elsewhere")
			return u
		},
		"sparse": func(t *testing.T) user {
			u := newUser(t)
			history(u)
			u.git("sparse-checkout", "set", "--cone", "dir")
			must(t, os.MkdirAll(filepath.Join(u.root, "dir"), 0o755))
			return u
		},
		"large file pointers": func(t *testing.T) user {
			u := newUser(t)
			u.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
			u.write("big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
			history(u)
			return u
		},
	}
	for name, make := range cases {
		t.Run(name, func(t *testing.T) {
			u := make(t)
			u.write("new", "untracked\n")
			u.write("dir/a", "zero\none\ntwo\nthree\n")
			before := u.git("for-each-ref") + u.git("stash", "list")
			_, w := u.work(u.open(), "")
			in := u.files(w)
			for _, args := range [][]string{
				{"status", "--porcelain", "--branch"}, {"log", "--oneline", "--decorate"}, {"diff"}, {"describe", "--dirty"},
				{"blame", "dir/a"}, {"branch", "-a"}, {"tag", "-l"}, {"stash", "list"}, {"rev-parse", "HEAD", "v1", "other"},
			} {
				if args[0] == "branch" || args[0] == "log" || args[0] == "blame" { // which show that it is another worktree, or the time
					gitIn(t, in, args...)
					continue
				}
				if got, want := gitIn(t, in, args...), u.git(args...); got != want {
					t.Errorf("git %q in the job:\n%s\nof the user:\n%s", args, got, want)
				}
			}
			for _, args := range [][]string{
				{"stash", "push", "-q", "-u"}, {"stash", "pop", "-q"}, {"checkout", "-q", "-b", "mine"}, {"add", "-A"}, {"commit", "-qm", "job"},
				{"tag", "v2"}, {"merge", "-q", "other"}, {"mv", "dir", "moved"}, {"commit", "-qam", "moved"}, {"rebase", "-q", "HEAD~1"},
				{"checkout", "-q", "other"}, {"checkout", "-q", "mine"}, {"gc", "-q"}, {"fsck", "--connectivity-only"},
			} {
				gitIn(t, in, args...)
			}
			if got := gitIn(t, in, "status", "--porcelain"); got != "" {
				t.Errorf("at the end: %q", got)
			}
			if got := strings.TrimSpace(gitIn(t, in, "describe")); got != "v2-1-g"+strings.TrimSpace(gitIn(t, in, "rev-parse", "--short", "HEAD")) && !strings.HasPrefix(got, "v1-") {
				t.Errorf("describe: %q", got)
			}
			if after := u.git("for-each-ref") + u.git("stash", "list"); after != before {
				t.Errorf("the user's refs were\n%sand are\n%s", before, after)
			}
		})
	}
}
