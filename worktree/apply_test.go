package worktree

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// changed is a repository, and what a job made of it.
func changed(t *testing.T, fill func(user), script string) (user, *Repo, Snapshot, Result) {
	t.Helper()
	u := newUser(t)
	fill(u)
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	j.run(script)
	return u, r, snap, j.result(r, snap)
}

func TestApplyMerges(t *testing.T) {
	lines := strings.Repeat("line\n", 20)
	u, r, snap, res := changed(t, func(u user) {
		u.write("both", "first\n"+lines+"last\n")
		u.write("mode", "m\n"+lines)
		u.write("same", "s")
		u.write("users", "u")
		u.write("gone in both", "g")
		u.commit()
	}, `sed -i 's/first/FIRST/' both; chmod +x mode; echo same > same; rm 'gone in both'; echo j > jobs`)
	u.write("both", "first\n"+lines+"LAST\n")
	u.write("mode", "M\n"+lines)
	u.write("same", "same\n")
	u.write("users", "U")
	u.write("mine", "untracked")
	check(t, os.Remove(filepath.Join(u.root, "gone in both")), os.Chmod(filepath.Join(u.root, "both"), 0o640))
	index := fingerprint(t, filepath.Join(u.root, ".git"))
	done, err := r.Apply(t.Context(), snap, res)
	check(t, err)
	if !slices.Equal(done.Written, []string{"both", "jobs", "mode"}) || len(done.Removed) > 0 {
		t.Errorf("did %+v", done)
	}
	sameTree(t, tree(t, u.root), map[string]string{
		"both": `false "FIRST\n` + strings.ReplaceAll(lines, "\n", `\n`) + `LAST\n"`, "mode": `true "M\n` + strings.ReplaceAll(lines, "\n", `\n`) + `"`,
		"same": `false "same\n"`, "users": `false "U"`, "mine": `false "untracked"`, "jobs": `false "j\n"`,
	})
	sameTree(t, fingerprint(t, filepath.Join(u.root, ".git")), index)
	if info, err := os.Stat(filepath.Join(u.root, "both")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("permissions are %v", info.Mode())
	}
}

func TestApplyWithConflictChangesNothing(t *testing.T) {
	fill := func(u user) {
		u.write(".gitignore", "*.ign\n")
		for _, n := range []string{"both", "removed", "gone", "kind", "dir/a", "bin"} {
			u.write(n, n+"\n")
		}
		u.write("bin", "\x00a")
		u.commit()
	}
	script := `echo job > both; rm removed; echo job > gone; rm kind; ln -s x kind; printf '\0job' > bin
echo job > added; mkdir n; echo job > n/f; echo job > fine; echo > link-dir; rm .gitignore; echo job > a.ign; echo job > as-dir; mkdir repo; echo job > repo/f; rm dir/a; rmdir dir; echo f > dir`
	u, r, snap, res := changed(t, fill, script)
	u.write("both", "user\n")
	u.write("removed", "user\n")
	u.write("kind", "user\n")
	u.write("bin", "\x00user")
	u.write("added", "user\n")
	u.write("n", "a file\n")
	u.write("a.ign", "ignored, of the user's\n")
	u.write("as-dir/x.ign", "ignored\n")
	u.write("dir/mine", "user\n")
	gitIn(t, u.root, "init", "-q", "repo")
	check(t, os.Remove(filepath.Join(u.root, "gone")))
	before := fingerprint(t, u.root)
	_, err := r.Apply(t.Context(), snap, res)
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("got %v", err)
	}
	why := map[string]string{}
	for _, c := range conflict.Conflicts {
		why[c.Path] = c.Why
	}
	want := map[string]string{
		"both": "was changed both by the job and in your files", "bin": "was changed both by the job and in your files", "kind": "was changed both by the job and in your files",
		"removed": "was removed by the job and changed in your files", "gone": "was changed by the job and is gone from your files",
		"added": "was added both by the job and in your files", "n": "is a file on one side and a directory on the other", "dir": "is a file on one side and a directory on the other",
		"a.ign": "is in the way: git ignores it in your checkout", "as-dir": "is a directory in your checkout, with as-dir/x.ign in it",
		"repo/f": "lies in a nested git repository in your checkout",
	}
	for p := range why {
		if w, ok := want[p]; !ok || w != why[p] {
			if p != "n/f" {
				t.Errorf("%s: %q, want %q", p, why[p], w)
			}
		}
		delete(want, p)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", slices.Collect(maps.Keys(want)))
	}
	sameTree(t, fingerprint(t, u.root), before)
}

// A directory of the user's that has become a link leads nowhere.
func TestApplyFollowsNoLink(t *testing.T) {
	for _, target := range []string{".git", "..", "other"} {
		u, r, snap, res := changed(t, func(u user) {
			u.write("d/f", "x")
			u.write("other/x", "x")
			u.commit()
		}, "echo job > d/f; echo job > d/new; mkdir -p gen; echo job > gen/hook")
		check(t, os.RemoveAll(filepath.Join(u.root, "d")), os.Symlink(target, filepath.Join(u.root, "d")), os.Symlink(target, filepath.Join(u.root, "gen")))
		before := fingerprint(t, filepath.Dir(u.root))
		if _, err := r.Apply(t.Context(), snap, res); !errorIs[*ConflictError](err) {
			t.Errorf("%s: got %v", target, err)
		}
		after := fingerprint(t, filepath.Dir(u.root))
		for p := range after {
			if strings.Contains(p, "/.cache/") {
				delete(after, p)
			}
		}
		for p := range before {
			if strings.Contains(p, "/.cache/") {
				delete(before, p)
			}
		}
		delete(before, filepath.Dir(u.root))
		delete(after, filepath.Dir(u.root))
		sameTree(t, after, before)
	}
}

// Nor does one that became a link after everything was compared.
func TestApplyFollowsNoSwappedLink(t *testing.T) {
	u, r, snap, res := changed(t, func(u user) { u.write("d/f", "x"); u.commit() }, "echo job > d/f; echo job > d/new")
	a := planned(t, r, snap, res)
	defer a.place.close()
	elsewhere := filepath.Join(filepath.Dir(u.root), "elsewhere")
	check(t, os.Rename(filepath.Join(u.root, "d"), elsewhere), os.Symlink(elsewhere, filepath.Join(u.root, "d")))
	before := fingerprint(t, elsewhere)
	if err := a.run(t.Context()); !errors.Is(err, errLink) {
		t.Errorf("got %v", err)
	}
	sameTree(t, fingerprint(t, elsewhere), before)
}

// What was done is undone when something fails half-way, here because the files vanish or change under it.
func TestApplyRollsBack(t *testing.T) {
	u, r, snap, res := changed(t, func(u user) {
		for _, n := range []string{"a", "b/deep/f", "c", "link"} {
			u.write(n, n)
		}
		u.commit()
	}, "echo job > a; rm -r b; mkdir -p new/dir; echo job > new/dir/f; rm link; ln -s a link; rm c; mkdir c; echo > c/x; echo z > z")
	check(t, os.MkdirAll(filepath.Join(u.root, "z/empty"), 0o750))
	before := tree(t, u.root)
	times := fingerprint(t, u.root)
	full := 0
	for fail := 0; ; fail++ {
		a := planned(t, r, snap, res)
		steps := 0
		a.each = func() error {
			if steps++; steps > fail {
				return syscall.ENOSPC
			}
			return nil
		}
		err := a.run(t.Context())
		a.place.close()
		if err == nil {
			full = fail
			break
		}
		if !errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("failing after %d steps: %v", fail, err)
		}
		sameTree(t, tree(t, u.root), before)
		after := fingerprint(t, u.root)
		for p, was := range times { // directories have other times
			if info, err := os.Lstat(p); err != nil || !info.IsDir() && after[p] != was {
				t.Errorf("failing after %d steps: %s is %s, was %s", fail, p, after[p], was)
			}
		}
		if info, err := os.Stat(filepath.Join(u.root, "z/empty")); err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("an empty directory is gone: %v", err)
		}
	}
	if full < 5 {
		t.Errorf("only %d steps", full)
	}
	if exists(filepath.Join(u.root, "b")) || !exists(filepath.Join(u.root, "c/x")) {
		t.Error("it was not done at the end")
	}
}

// planned is an application that may begin.
func planned(t *testing.T, r *Repo, snap Snapshot, res Result) *application {
	t.Helper()
	p, err := openPlace(r.root)
	check(t, err)
	a := &application{repo: r, place: p}
	check(t, a.plan(t.Context(), snap, res))
	return a
}

func TestApplyKeepsBitsAway(t *testing.T) {
	u, r, snap, res := changed(t, func(u user) { u.write("a", "a"); u.commit() }, "cp /bin/true tool; chmod 6755 tool; chmod 4755 a; mkdir d; chmod 2777 d; echo > d/x")
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	_, err := r.Apply(t.Context(), snap, res)
	check(t, err)
	for p, want := range map[string]fs.FileMode{"tool": 0o750, "a": 0o755, "d": fs.ModeDir | 0o750, "d/x": 0o640} {
		if info, err := os.Stat(filepath.Join(u.root, p)); err != nil || info.Mode() != want {
			t.Errorf("%s has %v, want %v (%v)", p, info.Mode(), want, err)
		}
	}
}

func TestApplyInSubmodule(t *testing.T) {
	u := newUser(t)
	lib := filepath.Join(filepath.Dir(u.root), "lib")
	gitIn(t, filepath.Dir(u.root), "init", "-q", lib)
	check(t, os.WriteFile(lib+"/l", []byte("l"), 0o644))
	gitIn(t, lib, "add", "-A")
	gitIn(t, lib, "commit", "-qm", "l")
	u.write("a", "a")
	u.git("submodule", "--quiet", "add", lib, "sub")
	u.commit()
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	j.run("echo job > sub/l; echo job > sub/new; echo job > a")
	res := j.result(r, snap)
	dotGit := fingerprint(t, filepath.Join(u.root, "sub/.git"))
	_, err = r.Apply(t.Context(), snap, res)
	check(t, err)
	sameTree(t, fingerprint(t, filepath.Join(u.root, "sub/.git")), dotGit)
	if out := u.git("-C", "sub", "status", "--porcelain"); out != " M l\n?? new\n" {
		t.Errorf("status %q", out)
	}
	b, err := r.Branch(t.Context(), "x", "m", snap, res)
	check(t, err)
	if len(b.Skipped) != 2 || b.Skipped[0].Path != "sub/l" {
		t.Errorf("left out %+v", b.Skipped)
	}
	if out := u.git("diff", "--name-status", "main", "x"); out != "M\ta\n" {
		t.Errorf("branch has %q", out)
	}
}

// A job with the user's own files may put a link where apply collects what is new: nothing is written through it.
func TestApplyCollectsBehindNoLink(t *testing.T) {
	u, r, snap, res := changed(t, func(u user) { u.write("a", "a\n") }, "echo job > a")
	outside := filepath.Join(filepath.Dir(u.root), "outside")
	check(t, os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, ".gitignore"), []byte("mine\n"), 0o644))
	before := tree(t, outside)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		swapped := 0
		for {
			select {
			case <-stop:
				done <- swapped
				return
			default:
			}
			stages, _ := filepath.Glob(filepath.Join(globQuoter.Replace(u.root), ".berth-apply-*"))
			for _, s := range stages {
				if os.Rename(s, filepath.Join(u.root, "..", "moved")) == nil && os.Symlink(outside, s) == nil {
					swapped++
				}
				os.RemoveAll(filepath.Join(u.root, "..", "moved"))
			}
		}
	}()
	for range 20 {
		check(t, os.WriteFile(filepath.Join(u.root, "a"), []byte("a\n"), 0o644))
		_, _ = r.Apply(t.Context(), snap, res) // it may notice
		stages, _ := filepath.Glob(filepath.Join(globQuoter.Replace(u.root), ".berth-apply-*"))
		for _, s := range stages {
			os.RemoveAll(s)
		}
	}
	close(stop)
	if n := <-done; n == 0 {
		t.Error("nothing was swapped")
	} else {
		t.Log(n, "were swapped")
	}
	sameTree(t, tree(t, outside), before)
}
