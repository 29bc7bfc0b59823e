package worktree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/worktree/overlay"
)

// What git converts on the way in and out does not show up as changed in a commit.
func TestBranchKnowsConvertedFiles(t *testing.T) {
	u := newUser(t)
	u.git("config", "--global", "filter.rot.clean", "tr a-z n-za-m")
	u.git("config", "--global", "filter.rot.smudge", "tr a-z n-za-m")
	u.write(".gitattributes", "*.txt text eol=crlf\n*.rot filter=rot\n")
	for _, n := range []string{"same.txt", "job.txt", "user.txt", "same.rot", "user.rot"} {
		u.write(n, "one\ntwo\nthree\n")
	}
	u.git("add", "-A")
	u.git("commit", "-qm", "c")
	check(t, os.RemoveAll(filepath.Join(u.root, "same.txt")))
	u.git("checkout", "-q", "--", ".")
	for _, n := range []string{"job.txt", "user.txt", "same.txt", "user.rot", "same.rot"} {
		check(t, os.Remove(filepath.Join(u.root, n)))
	}
	u.git("checkout", "-q", "--", ".")
	u.write("user.txt", "one\r\nTWO\r\nthree\r\n")
	u.write("user.rot", "one\nTWO\nthree\n")
	if out := u.git("status", "--porcelain"); out != " M user.rot\n M user.txt\n" {
		t.Fatalf("status %q", out)
	}
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	j.run(`sed -i 's/two/job/' job.txt; grep -q $'\r' job.txt`)
	res := j.result(r, snap)
	_, err = r.Branch(t.Context(), "x", "m", snap, res)
	check(t, err)
	if out := u.git("diff", "--stat", "main", "x"); !strings.Contains(out, "3 files changed, 6 insertions") && !strings.Contains(out, "3 files changed") {
		t.Errorf("changed: %s", out)
	}
	if out := u.git("diff", "--numstat", "main", "x", "--", "*.txt"); out != "1\t1\tjob.txt\n1\t1\tuser.txt\n" {
		t.Errorf("text files: %q", out)
	}
	if out := u.git("diff", "--name-only", "main", "x"); strings.Contains(out, "same") {
		t.Errorf("unchanged files are in the commit: %q", out)
	}
}

func TestBranchWithoutIdentityOrBadName(t *testing.T) {
	u, r, snap, res := changed(t, func(u user) { u.write("a", "a"); u.commit() }, "echo b > b")
	refs := u.git("for-each-ref")
	for _, name := range []string{"", "-x", "a..b", "a b", "HEAD", "x.lock", "a\x00b"} {
		if _, err := r.Branch(t.Context(), name, "m", snap, res); !errorIs[*BranchNameError](err) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := r.Branch(t.Context(), "main", "m", snap, res); !errorIs[*BranchExistsError](err) {
		t.Errorf("an existing branch: %v", err)
	}
	if _, err := r.Branch(t.Context(), "main/below", "m", snap, res); err == nil {
		t.Error("a branch below another one was made")
	}
	u.git("config", "--global", "--unset", "user.email")
	if _, err := u.open().Branch(t.Context(), "x", "m", snap, res); !errorIs[*NoIdentityError](err) {
		t.Errorf("without an author: %v", err)
	}
	if after := u.git("for-each-ref"); after != refs {
		t.Errorf("refs are %s, were %s", after, refs)
	}
}

func TestBranchOfSparseCheckout(t *testing.T) {
	u := newUser(t)
	u.write("in/a", "a")
	u.write("out/b", "b")
	u.commit()
	u.git("sparse-checkout", "set", "in")
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	j.run("echo job > in/a")
	_, err = r.Branch(t.Context(), "x", "m", snap, j.result(r, snap))
	check(t, err)
	if out := u.git("diff", "--name-status", "main", "x"); out != "M\tin/a\n" {
		t.Errorf("changed: %q", out)
	}
}

func TestBranchWithoutAnyCommit(t *testing.T) {
	_, r, snap, res := changed(t, func(u user) { u.write("a", "a") }, "echo b > b")
	b, err := r.Branch(t.Context(), "x", "m", snap, res)
	check(t, err)
	if b.Commits != 1 {
		t.Errorf("got %+v", b)
	}
}

func TestCopyOut(t *testing.T) {
	src := t.TempDir()
	j := job{t, "", src}
	j.run(`mkdir -p d/e; echo x > d/f; chmod 4755 d/f; touch -d 2001-02-03 d/f; ln -s /etc d/out; ln -s f d/l; mkdir d/ro; echo r > d/ro/r; chmod 500 d/ro; mkfifo d/p; echo single > s`)
	stack := overlay.Stack{src}
	copyTo := func(from, dest string) ([]Skipped, error) {
		return CopyOut(t.Context(), overlay.Local{}, stack, from, dest)
	}
	out := t.TempDir()
	skipped, err := copyTo("d", out)
	check(t, err)
	if len(skipped) != 1 || skipped[0].Path != "d/p" {
		t.Errorf("left out %+v", skipped)
	}
	want := map[string]string{"f": `true "x\n"`, "out": "link /etc", "l": "link f", "ro/r": `false "r\n"`}
	sameTree(t, tree(t, filepath.Join(out, "d")), want)
	info, err := os.Stat(filepath.Join(out, "d/f"))
	check(t, err)
	if info.Mode() != 0o755 || info.ModTime().Year() != 2001 {
		t.Errorf("%v %v", info.Mode(), info.ModTime())
	}
	if info, err := os.Stat(filepath.Join(out, "d/ro")); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("directory: %v", err)
	}
	_, err = copyTo("d", filepath.Join(out, "new"))
	check(t, err)
	sameTree(t, tree(t, filepath.Join(out, "new")), want)
	_, err = copyTo("s", filepath.Join(out, "named"))
	check(t, err)

	// Into what is there: files are replaced, kinds are not, links are not followed.
	victim := t.TempDir()
	check(t, os.Symlink(victim, filepath.Join(out, "sl")), os.Mkdir(filepath.Join(out, "s"), 0o755))
	if _, err := copyTo("s", out); err == nil {
		t.Error("a file has replaced a directory")
	}
	if _, err := copyTo("d", filepath.Join(out, "named")); err == nil {
		t.Error("a directory has replaced a file")
	}
	check(t, os.RemoveAll(filepath.Join(out, "d/e")), os.Symlink(victim, filepath.Join(out, "d/e")))
	j.run("echo evil > d/e/evil; rm d/l; echo now > d/l")
	if _, err := copyTo("d", out); err == nil || !strings.Contains(err.Error(), "d/e") {
		t.Errorf("through a link: %v", err)
	}
	check(t, os.Remove(filepath.Join(out, "d/e")))
	_, err = copyTo("d", out)
	check(t, err)
	if left, _ := os.ReadDir(victim); len(left) > 0 {
		t.Error("something was written through a link")
	}
	if data, _ := os.ReadFile(filepath.Join(out, "d/f")); string(data) != "x\n" {
		t.Error("a link was followed")
	}
	if _, err := copyTo("../x", out); err == nil {
		t.Error("a path leads out")
	}
}
