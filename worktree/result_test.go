package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/worktree/overlay"
)

// oddNames are names that something on the way could trip over.
var oddNames = []string{"with space", "new\nline", `quo"te`, `back\slash`, "tab\t", "ünïcode ☃", "-dash", ":colon", "!bang", "#hash", "glob*?[x]", "bytes\xff\xfe", "'single'", "$HOME", "a\x01b", "tail "}

func fill(u user) {
	u.write(".gitignore", "*.log\nbuild/\n/only-top\nnode_modules/\n")
	u.write("text", "one\ntwo\nthree\n")
	u.write("moved", strings.Repeat("a line that stays\n", 40))
	u.write("gone", "x")
	u.write("dir/gone too", "x")
	u.write("dir/stays", "x")
	u.write("file to dir", "x")
	u.write("dir to file/a/b", "x")
	u.write("file to link", "x")
	u.write("mode", "x")
	u.write("crlf", "a\r\nb\r\n")
	u.write("empty", "")
	u.write("tracked.log", "tracked though ignored\n")
	u.write("sub/.gitignore", "!kept.log\n")
	u.write("bin", "\x00\x01\x02"+strings.Repeat("z", 3000))
	for _, n := range oddNames {
		u.write("odd/"+n, n)
	}
	check(u.t, os.Symlink("text", filepath.Join(u.root, "link to file")), os.Symlink("nowhere", filepath.Join(u.root, "link")))
	u.git("add", "-f", "-A")
}

// work is what a job does to that: every kind of change.
const work = `
echo four >> text
mv moved 'moved away'
rm gone; rm 'dir/gone too'
rm 'file to dir'; mkdir 'file to dir'; echo 1 > 'file to dir/x'
rm -r 'dir to file'; echo f > 'dir to file'
ln -sf text 'file to link'
rm 'link to file'; echo f > 'link to file'
ln -sfn /etc/passwd link
chmod +x mode; touch -d 2001-01-01 crlf; touch empty
printf 'a\r\nB\r\n' > crlf
echo more >> tracked.log
printf '\0\3\4' >> bin
for f in odd/*; do printf changed >> "$f"; done
mkdir -p new/deep node_modules/x build/y sub/only-top
cp odd/* new/; : > new/empty; echo 1 > new/deep/run; chmod 700 new/deep/run
echo no > some.log; echo no > new/deep/a.log; echo yes > sub/kept.log; echo no > only-top; echo yes > sub/only-top/f
for i in 1 2 3; do echo $i > node_modules/x/$i; done; echo '!*' > node_modules/x/.gitignore; echo b > build/y/z
mkdir new/ign; echo '*.tmp' > new/ign/.gitignore; echo n > new/ign/a.tmp; echo y > new/ign/a.txt
mkdir emptydir
mkfifo pipe
`

// ignoredWork is what of it git ignores, or is no file.
var ignoredWork = []string{"some.log", "new/deep/a.log", "only-top", "node_modules", "build", "new/ign/a.tmp", "pipe"}

func TestResultHasEveryKindOfChange(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		for _, committed := range []bool{true, false} {
			t.Run(fmt.Sprint(format, committed), func(t *testing.T) {
				u := newUser(t, "--object-format="+format)
				fill(u)
				if committed {
					u.git("commit", "-qm", "c")
				}
				r := u.open()
				snap, err := r.Snapshot(t.Context(), "")
				check(t, err)
				j := u.job(r, snap)
				j.run(work)
				git := fingerprint(t, filepath.Join(u.root, ".git"))
				res := j.result(r, snap)
				if len(res.Skipped) != 1 || res.Skipped[0].Path != "pipe" || res.Head != "" || res.NoHead != "" {
					t.Errorf("got %+v", res)
				}
				os.Remove(filepath.Join(j.files, "pipe"))
				want := tree(t, j.files, ignoredWork...)
				sameTree(t, restored(t, r, res.Tree), want)
				if again := j.result(r, snap); again.Tree != res.Tree {
					t.Error("the second time it is another tree")
				}
				patches(t, r, snap, res, want)
				done, err := r.Apply(t.Context(), snap, res)
				check(t, err)
				if len(done.Written) < 20 || !slices.Contains(done.Removed, "gone") {
					t.Errorf("got %+v", done)
				}
				sameTree(t, tree(t, u.root), want)
				if exists(filepath.Join(u.root, "dir to file/a")) {
					t.Error("an empty directory is left")
				}
				again, err := r.Apply(t.Context(), snap, res)
				check(t, err)
				if len(again.Written)+len(again.Removed) > 0 {
					t.Errorf("the second time it did %+v", again)
				}
				if committed { // nothing was written to the user's git directory
					sameTree(t, fingerprint(t, filepath.Join(u.root, ".git")), git)
				}
			})
		}
	}
}

// patches checks that git makes the same files of the snapshot with the diff.
func patches(t *testing.T, r *Repo, snap Snapshot, res Result, want map[string]string) {
	t.Helper()
	dir := t.TempDir()
	gitIn(t, dir, "init", "-q", "--object-format="+r.format)
	_, err := CopyOut(t.Context(), r.TreeReader(snap.Tree), nil, ".", dir)
	check(t, err)
	var patch, names, stat bytes.Buffer
	check(t, r.Diff(t.Context(), &patch, snap.Tree, res.Tree, DiffOptions{}),
		r.Diff(t.Context(), &names, snap.Tree, res.Tree, DiffOptions{NameOnly: true, Null: true}),
		r.Diff(t.Context(), &stat, snap.Tree, res.Tree, DiffOptions{Stat: true}))
	cmd := exec.Command("git", "apply", "--whitespace=nowarn")
	cmd.Dir, cmd.Stdin = dir, &patch
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git apply: %v\n%s", err, out)
	}
	sameTree(t, tree(t, dir), want)
	if n := splitZ(names.Bytes()); !slices.Contains(n, "odd/new\nline") {
		t.Errorf("names: %q", n)
	}
	if !strings.Contains(stat.String(), "moved => moved away") || !strings.Contains(stat.String(), "files changed") {
		t.Errorf("stat: %s", stat.String())
	}
}

func TestResultWithoutChanges(t *testing.T) {
	{
		u := newUser(t)
		fill(u)
		u.git("commit", "-qm", "c")
		r := u.open()
		snap, err := r.Snapshot(t.Context(), "")
		check(t, err)
		j := u.job(r, snap)
		if res := j.result(r, snap); res.Tree != snap.Tree || res.Branch != "main" || res.Head != "" {
			t.Errorf("%s: got %+v, want the snapshot %s", form, res, snap.Tree)
		}
		j.run("rm -rf -- * .gitignore")
		if res := j.result(r, snap); len(restored2(t, r, res.Tree)) != 0 {
			t.Errorf("%s: something is left", form)
		}
	}
}

// restored2 lists a tree that may be empty.
func restored2(t *testing.T, r *Repo, id string) []entry {
	t.Helper()
	x, err := r.treeIndex(t.Context(), id)
	check(t, err)
	return x.entries
}

func TestResultTakesCommits(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		{
			for _, how := range []string{":", "git gc -q --prune=now", "git repack -qd"} {
				t.Run(format+how, func(t *testing.T) {
					u := newUser(t, "--object-format="+format)
					fill(u)
					u.git("commit", "-qm", "c")
					u.write("uncommitted", "u")
					r := u.open()
					snap, err := r.Snapshot(t.Context(), "")
					check(t, err)
					j := u.job(r, snap)
					j.run("git switch -qc topic; echo 1 > one; echo log > forced.log; git add -f one forced.log; git commit -qm one; echo 2 > two; git add two; git commit -qm two; " + how + "; echo 3 > three")
					res := j.result(r, snap)
					head := strings.TrimSpace(gitIn(t, j.files, "rev-parse", "HEAD"))
					if res.Head != head || res.Branch != "topic" || res.NoHead != "" {
						t.Fatalf("got %+v, want head %s", res, head)
					}
					want := tree(t, j.files)
					sameTree(t, restored(t, r, res.Tree), want)

					b, err := r.Branch(t.Context(), "kept", "the rest", snap, res)
					check(t, err)
					if log := u.git("log", "--format=%s %an %ae", "main..kept"); log != "the rest U u@example.org\ntwo U u@example.org\none U u@example.org\n" || b.Commits != 3 {
						t.Errorf("%+v: %s", b, log)
					}
					if u.git("rev-parse", "kept^") != head+"\n" {
						t.Error("the job's commits are not the same ones")
					}
					if out := u.git("diff", "--name-status", "kept^", "kept"); out != "A\tthree\nA\tuncommitted\n" {
						t.Errorf("the last commit has %s", out)
					}
					u.git("fsck", "--strict", "--no-dangling")
					if _, err := r.Branch(t.Context(), "kept", "m", snap, res); !errorIs[*BranchExistsError](err) {
						t.Errorf("a second time: %v", err)
					}
				})
			}
		}
	}
}

func TestResultLeavesOutWhatGitWouldNotStore(t *testing.T) {
	{
		u := newUser(t)
		u.write("a", "a")
		u.commit()
		r := u.open()
		snap, err := r.Snapshot(t.Context(), "")
		check(t, err)
		j := u.job(r, snap)
		j.run(`git init -q nested; echo n > nested/beside; mkdir -p x/.GIT d; echo e > x/.GIT/config; echo e > 'd/git~1'; echo e > $'d/.g\u200cit'; ln -s a .gitmodules; echo ok > d/ok; mkdir y; echo gitdir: /etc > y/.git; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'`)
		res := j.result(r, snap)
		var names []string
		for _, s := range res.Skipped {
			names = append(names, s.Path)
		}
		slices.Sort(names)
		want := []string{".gitmodules", "d/.g\u200cit", "d/git~1", "nested/.git", "s", "x/.GIT", "x/.GIT/config", "y/.git"}
		if !slices.Equal(names, want) {
			t.Errorf("%s: left out %q, want %q", form, names, want)
		}
		sameTree(t, restored(t, r, res.Tree), map[string]string{"a": `false "a"`, "d/ok": `false "ok\n"`, "nested/beside": `false "n\n"`})
	}
}

func TestKeptResultOutlivesTheWorkspace(t *testing.T) {
	u := newUser(t)
	u.write("a", "a")
	u.commit()
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	j.run("echo b > b; git add b; git commit -qm b; echo c > c")
	file := filepath.Join(t.TempDir(), "result.json")
	check(t, r.KeepResult(t.Context(), overlay.Local{}, j.dir, snap, file), RemoveWorkspace(t.Context(), overlay.Remove, j.dir))
	check(t, r.KeepResult(t.Context(), overlay.Local{}, j.dir, snap, file)) // nothing to keep any more
	res, err := ReadResult(file)
	check(t, err)
	again := u.open()
	_, err = again.Branch(t.Context(), "x", "m", snap, res)
	check(t, err)
	if out := u.git("log", "--format=%s", "x"); out != "m\nb\nc\n" {
		t.Errorf("log %q", out)
	}
	_, err = again.Apply(t.Context(), snap, res)
	check(t, err)
	sameTree(t, tree(t, u.root), map[string]string{"a": `false "a"`, "b": `false "b\n"`, "c": `false "c\n"`})
}

func TestKeptResultIsBounded(t *testing.T) {
	c := &changes{list: []overlay.Entry{
		{Path: "small", Kind: overlay.File, Size: 10}, {Path: "large", Kind: overlay.File, Size: 5e6}, {Path: "gone", Kind: overlay.Gone}, {Path: "larger", Kind: overlay.File, Size: 7e6},
	}}
	c.leaveOutLarge(5e6)
	if len(c.list) != 2 || len(c.skipped) != 2 || c.skipped[1].Why != "has 7 MB, which are not kept" {
		t.Errorf("got %+v, left out %+v", c.list, c.skipped)
	}
}

// countingReader notes what is read.
type countingReader struct {
	overlay.Local
	paths []string
}

func (c *countingReader) Read(ctx context.Context, s overlay.Stack, paths []string, fn func(overlay.Entry, io.Reader) error) error {
	c.paths = append(c.paths, paths...)
	return c.Local.Read(ctx, s, paths, fn)
}

func errorIs[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

func TestIgnoredDirectoryIsNotRead(t *testing.T) {
	u := newUser(t)
	u.write(".gitignore", "node_modules\n")
	u.commit()
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	j.run("mkdir -p node_modules/{1..100}; for d in node_modules/*; do for i in {1..20}; do : > $d/$i; done; echo x > $d/.gitignore; done; echo x > y")
	read := &countingReader{}
	res, err := r.Result(t.Context(), read, j.dir, snap)
	check(t, err)
	// A file of the same moment as the checkout is looked at in the plain form.
	read.paths = slices.DeleteFunc(read.paths, func(p string) bool { return p == ".gitignore" })
	if slices.Sort(read.paths); !slices.Equal(read.paths, []string{".git/HEAD", ".git/refs/heads/main", "y"}) || len(restored(t, r, res.Tree)) != 2 {
		t.Errorf("read %q", read.paths)
	}
}
