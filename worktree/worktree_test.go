package worktree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/worktree/overlay"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each case leaves a working tree behind; a workspace of it must have the same files, git status in it must say the
// same, and the user's .git must be untouched.
func TestRoundTrip(t *testing.T) {
	odd := []string{"with space", "new\nline", "ünï", "-dash", ":colon", "quote\"", "back\\slash", "tab\t", "d/-x/:y"}
	cases := map[string]struct {
		init []string
		make func(u user)
		skip []string // of the working tree, not in a snapshot
	}{
		"no commit": {make: func(u user) { u.write("a", "1"); u.write("b", "2"); u.git("add", "a") }},
		"empty":     {make: func(u user) {}},
		"sha256":    {init: []string{"--object-format=sha256"}, make: func(u user) { u.write("a", "1"); u.commit(); u.write("b", "1") }},
		"changes": {make: func(u user) {
			for _, f := range append(odd, "staged", "unstaged", "both", "gone", "gone2", "moved", "exec", "file2dir", "dir2file/x") {
				u.write(f, "old "+f)
			}
			must(u.t, os.Symlink("staged", filepath.Join(u.root, "link")))
			u.commit()
			u.write("staged", "new")
			u.write("both", "new")
			u.git("add", "staged", "both")
			u.write("both", "newer")
			u.write("unstaged", "new")
			u.write("untracked/deep/f", "new")
			u.write("-untracked\n", "new")
			for _, f := range odd {
				u.write(f, "newer "+f)
			}
			must(u.t, os.Remove(filepath.Join(u.root, "gone")))
			u.git("rm", "-q", "gone2")
			u.git("mv", "moved", "moved to")
			must(u.t, os.Chmod(filepath.Join(u.root, "exec"), 0o755))
			must(u.t, os.Remove(filepath.Join(u.root, "file2dir")))
			u.write("file2dir/x", "1")
			must(u.t, os.RemoveAll(filepath.Join(u.root, "dir2file")))
			u.write("dir2file", "1")
			must(u.t, os.Remove(filepath.Join(u.root, "link")))
			must(u.t, os.Symlink("/nowhere\nat all", filepath.Join(u.root, "link")))
		}},
		"ignored": {skip: []string{"out", "x.o", "private", "mine"}, make: func(u user) {
			u.write(".gitignore", "*.o\nout/\n")
			u.write("kept.o", "tracked")
			u.git("add", "-f", "kept.o")
			u.commit()
			u.write("kept.o", "changed")
			u.write("out/f", "1")
			u.write("x.o", "1")
			u.write("private", "1")
			u.write("mine", "1")
			must(u.t, os.WriteFile(filepath.Join(u.root, ".git/info/exclude"), []byte("private\n"), 0o644))
			must(u.t, os.WriteFile(filepath.Join(u.root, "../ignore"), []byte("mine\n"), 0o644))
			u.git("config", "--global", "core.excludesFile", "~/ignore")
		}},
		"flags": {make: func(u user) {
			u.write("assume", "1")
			u.write("skip", "1")
			u.write("skipped", "1")
			u.commit()
			u.git("update-index", "--assume-unchanged", "assume")
			u.git("update-index", "--skip-worktree", "skip", "skipped")
			u.write("assume", "22")
			u.write("skip", "22")
			must(u.t, os.Remove(filepath.Join(u.root, "skipped")))
			u.write("intent", "1")
			u.git("add", "-N", "intent")
		}},
		"conflict": {make: func(u user) {
			u.write("f", "1")
			u.write("g", "1")
			u.commit()
			u.git("checkout", "-q", "-b", "other")
			u.write("f", "2")
			u.git("rm", "-q", "g")
			u.commit()
			u.git("checkout", "-q", "main")
			u.write("f", "3")
			u.write("g", "3")
			u.commit()
			cmd := exec.Command("git", "merge", "other")
			cmd.Dir = u.root
			if cmd.Run() == nil {
				u.t.Fatal("the merge should conflict")
			}
		}},
		"index v4, split, untracked cache": {make: func(u user) {
			u.git("config", "index.version", "4")
			for i := range 30 {
				u.write(fmt.Sprintf("dir/file-%d", i), "1")
			}
			u.commit()
			u.git("update-index", "--index-version=4", "--untracked-cache")
			u.git("config", "core.splitIndex", "true")
			u.git("update-index", "--split-index")
			u.write("dir/file-31", "1")
			u.git("add", "dir/file-31")
			u.write("dir/file-3", "other")
		}},
		"index v4": {make: func(u user) {
			for i := range 30 {
				u.write(fmt.Sprintf("dir%d/file-%d", i/7, i), "1")
			}
			u.commit()
			u.git("update-index", "--index-version=4")
			u.write("dir1/file-7", "other")
		}},
		"sparse": {make: func(u user) {
			u.write("in/f", "1")
			u.write("out/f", "1")
			u.write("out/deep/f", "1")
			u.commit()
			u.git("sparse-checkout", "set", "--cone", "--sparse-index", "in")
			u.write("in/f", "2")
		}},
		"line endings": {make: func(u user) {
			u.write(".gitattributes", "*.txt text eol=crlf\n*.u encoding=utf-8\n")
			u.write("a.txt", "one\r\ntwo\r\n")
			u.write("b.txt", "one\ntwo\n")
			u.git("-c", "core.safecrlf=false", "add", "-A")
			u.git("commit", "-qm", "c")
			u.write("c.txt", "mixed\r\nlines\n")
		}},
		"filter": {make: func(u user) {
			u.git("config", "filter.up.clean", "tr a-z A-Z")
			u.git("config", "filter.up.smudge", "tr A-Z a-z")
			u.write(".gitattributes", "*.low filter=up\n")
			u.write("a.low", "abc")
			u.commit()
			u.write("b", "untracked")
		}},
		"nested repositories": {skip: []string{"nested", "deep/er/nested"}, make: func(u user) {
			u.write("a", "1")
			u.commit()
			for _, d := range []string{"nested", "deep/er/nested", "deep/nohead"} {
				u.write(d+"/f", "1")
				gitIn(u.t, filepath.Join(u.root, d), "init", "-q")
			}
			gitIn(u.t, filepath.Join(u.root, "nested"), "add", "-A")
			gitIn(u.t, filepath.Join(u.root, "nested"), "commit", "-qm", "n")
			must(u.t, os.RemoveAll(filepath.Join(u.root, "deep/nohead")))
		}},
		"detached": {make: func(u user) { u.write("a", "1"); u.commit(); u.git("checkout", "-q", "--detach") }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, c.init...)
			c.make(u)
			want := tree(t, u.root, c.skip...)
			before := fingerprint(t, filepath.Join(u.root, ".git"))
			r := u.open()
			snap, w := u.work(r, "")
			sameTree(t, tree(t, u.files(w)), want)
			after := fingerprint(t, filepath.Join(u.root, ".git"))
			sameTree(t, after, before)
			inside := gitIn(t, u.files(w), "-c", "status.relativePaths=false", "status", "--porcelain", "-z", "--branch")
			outside := u.git("status", "--porcelain", "-z", "--branch")
			if name == "nested repositories" {
				outside = strings.ReplaceAll(strings.ReplaceAll(outside, "?? nested/\x00", ""), "?? deep/\x00", "")
			}
			if inside != outside && name != "filter" {
				t.Errorf("git status in the job:\n%q\nof the user:\n%q", inside, outside)
			}
			lines := strings.Count(outside, "\x00")
			if clean := lines == 1; name != "flags" && clean == snap.Dirty {
				t.Errorf("dirty is %t, git status says %q", snap.Dirty, outside)
			}
			u.unmount(w)
			must(t, RemoveWorkspace(t.Context(), overlay.Remove, w.Dir))
			if exists(w.Dir) {
				t.Error("the workspace is still there")
			}
		})
	}
}

func TestGitInJob(t *testing.T) {
	u := newUser(t)
	u.write("dir/a", "1")
	u.commit()
	u.git("tag", "-a", "v1", "-m", "v1")
	u.git("remote", "add", "origin", "https://me:s3cret@example.org/x.git")
	u.write("dir/a", "2")
	_, w := u.work(u.open(), "")
	in := filepath.Join(u.files(w), "dir")
	if got := strings.TrimSpace(gitIn(t, in, "describe", "--dirty")); got != "v1-dirty" {
		t.Errorf("describe: %q", got)
	}
	if got := strings.TrimSpace(gitIn(t, in, "rev-parse", "--show-toplevel")); got != filepath.Dir(in) {
		t.Errorf("top: %q", got)
	}
	if got := strings.TrimSpace(gitIn(t, in, "remote", "get-url", "origin")); got != "https://example.org/x.git" {
		t.Errorf("remote: %q", got)
	}
	gitIn(t, in, "commit", "-qam", "in the job")
	gitIn(t, in, "checkout", "-q", "-b", "side")
	if got := strings.Count(gitIn(t, in, "log", "--oneline"), "\n"); got != 2 {
		t.Errorf("%d commits in the log", got)
	}
	gitIn(t, in, "fsck", "--connectivity-only")
	if got := u.git("branch", "--list"); strings.Contains(got, "side") {
		t.Errorf("the job's branch is the user's: %q", got)
	}
}

func TestSubmodules(t *testing.T) {
	u := newUser(t)
	inner, lib := user{t, u.root + " inner"}, user{t, u.root + " lib"}
	for _, s := range []user{inner, lib} {
		must(t, os.Mkdir(s.root, 0o755))
		s.git("init", "-q")
		s.write("file", "committed")
		s.write(".gitignore", "*.o\n")
		s.commit()
	}
	lib.git("submodule", "--quiet", "add", inner.root, "inner")
	lib.commit()
	u.write("top", "1")
	u.git("submodule", "--quiet", "add", lib.root, "libs/lib")
	u.git("submodule", "--quiet", "add", inner.root, "absent")
	u.git("submodule", "--quiet", "update", "--init", "--recursive")
	u.commit()
	committed := tree(t, u.root, "absent")
	u.git("submodule", "--quiet", "deinit", "absent")
	u.write("libs/lib/file", "changed")
	u.write("libs/lib/inner/new", "untracked")
	u.write("libs/lib/inner/x.o", "ignored")
	want := tree(t, u.root, "libs/lib/inner/x.o")
	before := fingerprint(t, filepath.Join(u.root, ".git"))
	r := u.open()
	snap, w := u.work(r, "")
	sameTree(t, tree(t, u.files(w)), want)
	var names []string
	for _, s := range snap.Submodules {
		names = append(names, fmt.Sprintf("%s %t %t", s.Path, s.Commit != "", s.Dirty))
	}
	if want := []string{"absent false false", "libs/lib true true", "libs/lib/inner true true"}; !slices.Equal(names, want) {
		t.Errorf("submodules %q, want %q", names, want)
	}
	if got := gitIn(t, u.files(w), "status", "--porcelain"); got != "" {
		t.Errorf("git status: %q", got)
	}
	_, w = u.work(r, "HEAD")
	got := tree(t, u.files(w))
	delete(got, "absent/file")
	delete(got, "absent/.gitignore")
	sameTree(t, got, committed)
	sameTree(t, fingerprint(t, filepath.Join(u.root, ".git")), before)

	// What a live job could have written into a submodule's place takes nothing from elsewhere.
	secret := user{t, u.root + " secret"}
	must(t, os.Mkdir(secret.root, 0o755))
	secret.git("init", "-q")
	secret.write("secret", "s")
	secret.commit()
	must(t, os.WriteFile(filepath.Join(u.root, "libs/lib/.git"), []byte("gitdir: "+secret.root+"/.git\n"), 0o644))
	_, w = u.work(r, "")
	for _, m := range w.Mounts {
		if strings.Contains(m.Source, "secret") {
			t.Errorf("a foreign object store is mounted: %v", m)
		}
	}
}

func TestRefs(t *testing.T) {
	u := newUser(t)
	u.write("a", "1")
	u.commit()
	u.git("branch", "feature/login")
	u.write("a", "2")
	u.commit()
	r := u.open()
	snap, w := u.work(r, "feature/login")
	if snap.Branch != "feature/login" || snap.Dirty {
		t.Errorf("snapshot %+v", snap)
	}
	sameTree(t, tree(t, u.files(w)), map[string]string{"a": `false "1"`})
	if got := gitIn(t, u.files(w), "status", "--porcelain", "--branch"); got != "## feature/login\n" {
		t.Errorf("status %q", got)
	}
	for _, ref := range []string{"feature/logn", "--help", "a b", "x\ny", "HEAD:a", "", "main..HEAD"} {
		_, err := r.Snapshot(t.Context(), ref)
		var unknown *UnknownRefError
		if errors.As(err, &unknown) == (ref == "") {
			t.Errorf("ref %q: %v", ref, err)
		}
		if ref == "feature/logn" && !slices.Contains(unknown.Near, "feature/login") {
			t.Errorf("near names %q", unknown.Near)
		}
	}
}

func TestOpen(t *testing.T) {
	u := newUser(t)
	u.write("sub/dir/a", "1")
	u.commit()
	linked := u.root + "-linked"
	u.git("worktree", "add", "-q", "-b", "linked", linked)
	link := u.root + "-link"
	must(t, os.Symlink(u.root, link))
	t.Setenv("GIT_DIR", "/nowhere")
	t.Setenv("GIT_INDEX_FILE", "/nowhere")
	s := NewStore(filepath.Join(t.TempDir(), "cache"))
	first, err := s.Open(t.Context(), u.root)
	must(t, err)
	for dir, root := range map[string]string{filepath.Join(u.root, "sub/dir"): u.root, linked: linked, filepath.Join(link, "sub"): u.root} {
		r, err := s.Open(t.Context(), dir)
		must(t, err)
		if r.Root() != root || r.ID() != first.ID() {
			t.Errorf("%s: root %s, id %s", dir, r.Root(), r.ID())
		}
		_, err = r.Snapshot(t.Context(), "")
		must(t, err)
	}
	var none *NotRepoError
	if _, err := s.Open(t.Context(), t.TempDir()); !errors.As(err, &none) {
		t.Errorf("no repository: %v", err)
	}
	var refused *RefusedRootError
	if _, err := NewStore(filepath.Join(u.root, "cache")).Open(t.Context(), u.root); !errors.As(err, &refused) {
		t.Errorf("store in the repository: %v", err)
	}
	t.Setenv("HOME", u.root)
	if _, err := s.Open(t.Context(), u.root); !errors.As(err, &refused) {
		t.Errorf("home: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	u := newUser(t)
	u.write("core dump", "")
	must(t, os.Truncate(filepath.Join(u.root, "core dump"), 101e6))
	_, err := u.open().Snapshot(t.Context(), "")
	var large *TooLargeError
	if !errors.As(err, &large) || len(large.Files) != 1 || large.Files[0].Path != "core dump" {
		t.Fatalf("got %v", err)
	}
}

// Twenty at once, each through a store of its own as separate processes have them.
func TestConcurrent(t *testing.T) {
	u := newUser(t)
	for i := range 50 {
		u.write(fmt.Sprintf("d%d/f%d", i%5, i), fmt.Sprint(i))
	}
	u.commit()
	u.write("untracked", "1")
	want := tree(t, u.root)
	base := t.TempDir()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			r := u.open()
			snap, err := r.Snapshot(t.Context(), "")
			if err != nil {
				t.Error(err)
				return
			}
			w, err := u.make(r, WorkspaceSpec{Dir: filepath.Join(base, fmt.Sprint(i), "ws"), Snapshot: snap})
			if err != nil {
				t.Error(err)
				return
			}
			sameTree(t, tree(t, u.files(w)), want)
			u.unmount(w)
			if err := RemoveWorkspace(t.Context(), overlay.Remove, w.Dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made := layers(u.open().cache, basePrefix); form == Overlay && len(made) != 1 {
		t.Errorf("%d bases were made", len(made))
	}
}

func TestRemove(t *testing.T) {
	u := newUser(t)
	u.write("a", "1")
	r := u.open()
	_, w := u.work(r, "")
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Mkdir(outside, 0o500))
	in := u.files(w)
	must(t, os.MkdirAll(filepath.Join(in, "ro/deeper"), 0o755))
	must(t, os.WriteFile(filepath.Join(in, "ro/deeper/f"), nil, 0o400))
	must(t, os.Symlink(outside, filepath.Join(in, "ro/link")))
	must(t, os.Chmod(filepath.Join(in, "ro/deeper"), 0))
	must(t, os.Chmod(filepath.Join(in, "ro"), 0o500))
	u.unmount(w)
	for range 2 {
		must(t, RemoveWorkspace(t.Context(), overlay.Remove, w.Dir))
	}
	if exists(w.Dir) {
		t.Error("still there")
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("outside was touched: %v %v", info, err)
	}
	// A half-made one, and one whose directory was removed by hand.
	half := filepath.Join(t.TempDir(), "half")
	must(t, os.MkdirAll(filepath.Join(half, treeName), 0o700))
	must(t, RemoveWorkspace(t.Context(), overlay.Remove, half))
	alive := filepath.Join(r.CacheDir(), layersName, "base-alive")
	half = filepath.Join(r.CacheDir(), layersName, "base-half")
	for _, d := range []string{alive, half} {
		must(t, os.MkdirAll(filepath.Join(d, layerTree), 0o700))
		must(t, os.WriteFile(filepath.Join(d, "lock"), nil, 0o600))
	}
	unlock, _, err := lock(filepath.Join(alive, "lock"), false)
	must(t, err)
	defer unlock()
	dead := filepath.Join(r.CacheDir(), "tmp", "dead")
	must(t, os.Mkdir(dead, 0o700))
	stray := filepath.Join(r.bare(), "HEAD.lock")
	must(t, os.WriteFile(stray, nil, 0o600))
	must(t, os.Chtimes(stray, time.Time{}, time.Now().Add(-2*keepStray)))
	store := NewStore(filepath.Dir(r.CacheDir()))
	report, err := store.GC(t.Context())
	must(t, err)
	_, err = store.Trim(t.Context(), 1<<40)
	must(t, err)
	if len(report.Removed) != 2 || !exists(alive) || exists(half) || exists(stray) || exists(dead) {
		t.Errorf("removed %q", report.Removed)
	}
}

func TestLive(t *testing.T) {
	u := newUser(t)
	u.write("a", "1")
	u.commit()
	r := u.open()
	dir := filepath.Join(t.TempDir(), "ws")
	w, err := r.Live(t.Context(), dir)
	must(t, err)
	if w.Mounts[0] != (Mount{Source: u.root, Target: u.root}) || w.Mounts[1].Target != filepath.Join(u.root, ".git") || w.Mounts[1].Source == w.Mounts[1].Target {
		t.Errorf("mounts %+v", w.Mounts)
	}
	must(t, RemoveWorkspace(t.Context(), overlay.Remove, dir))
	if !exists(filepath.Join(u.root, "a")) || exists(dir) {
		t.Error("the wrong files were removed")
	}
	plain := t.TempDir()
	w, err = NewStore(t.TempDir()).LiveDir(plain, dir)
	must(t, err)
	if len(w.Mounts) != 1 {
		t.Errorf("mounts %+v", w.Mounts)
	}
	var refused *RefusedRootError
	if _, err := NewStore(t.TempDir()).LiveDir("/", dir+"2"); !errors.As(err, &refused) {
		t.Errorf("root: %v", err)
	}
}

// Random edits: whatever they leave, a workspace has it.
func TestRandomTrees(t *testing.T) {
	u := newUser(t)
	r := u.open()
	rnd := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c d", "é", "-e", ":f", "x\ny"}
	for range 25 {
		for range 8 {
			var parts []string
			for range 1 + rnd.IntN(3) {
				parts = append(parts, names[rnd.IntN(len(names))])
			}
			path := filepath.Join(u.root, filepath.Join(parts...))
			for d := filepath.Dir(path); d != u.root; d = filepath.Dir(d) {
				if info, err := os.Lstat(d); err == nil && !info.IsDir() {
					must(t, os.Remove(d))
				}
			}
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.RemoveAll(path))
			switch rnd.IntN(5) {
			case 0:
			case 1:
				must(t, os.Symlink(names[rnd.IntN(len(names))], path))
			default:
				must(t, os.WriteFile(path, fmt.Append(nil, rnd.IntN(4), "\n"), 0o644+os.FileMode(rnd.IntN(2))*0o111))
			}
		}
		switch rnd.IntN(4) {
		case 0:
			u.git("add", "-A")
		case 1:
			u.commit()
		}
		_, w := u.work(r, "")
		sameTree(t, tree(t, u.files(w)), tree(t, u.root))
		if t.Failed() {
			t.Fatal(u.git("status", "--porcelain"))
		}
	}
}
