package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/worktree/overlay"
)

// overlayOnly skips what has no meaning for checkouts of a job's own.
func overlayOnly(t *testing.T) {
	if form != Overlay {
		t.Skip("layers are tried out once, in the overlay form")
	}
}

// names are the layers of a repository that there are.
func names(r *Repo, prefix string) (out []string) {
	for _, l := range layers(r.cache, prefix) {
		out = append(out, filepath.Base(l.dir))
	}
	return out
}

func TestBasesAndDeltas(t *testing.T) {
	overlayOnly(t)
	u := newUser(t)
	for i := range 200 {
		u.write(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint(i))
	}
	u.write("dir/a", "1")
	u.write("file", "1")
	u.commit()
	r := u.open()
	count := func(bases, deltas int) {
		t.Helper()
		if b, d := names(r, basePrefix), names(r, deltaPrefix); len(b) != bases || len(d) != deltas {
			t.Errorf("bases %q, deltas %q, want %d and %d", b, d, bases, deltas)
		}
	}
	check := func(ref string, want map[string]string) {
		t.Helper()
		_, w := u.work(r, ref)
		sameTree(t, tree(t, u.files(w)), want)
		if got, want := gitIn(t, u.files(w), "status", "--porcelain", "-z"), u.git("status", "--porcelain", "-z"); ref == "" && got != want {
			t.Errorf("git status says %q, the user's %q", got, want)
		}
	}
	first := tree(t, u.root)
	check("", first)
	check("HEAD", first)
	count(1, 0)

	u.write("d1/f1", "changed")
	u.write("new/x", "1")
	must(t, os.RemoveAll(filepath.Join(u.root, "d2")))
	must(t, os.RemoveAll(filepath.Join(u.root, "dir")))
	u.write("dir", "a file now")
	must(t, os.Remove(filepath.Join(u.root, "file")))
	u.write("file/deep/er", "a directory now")
	must(t, os.Remove(filepath.Join(u.root, "d3/f3")))
	check("", tree(t, u.root))
	check("", tree(t, u.root))
	count(1, 1)
	u.commit()
	u.write("d1/f1", "changed again")
	check("", tree(t, u.root))
	check("HEAD~", first)
	count(1, 2)

	for i := range 100 {
		u.write(fmt.Sprintf("many/%d", i), "1")
	}
	check("", tree(t, u.root))
	count(2, 2)
}

// A deletion that a delta notes must not hide what other layers have there.
func TestDeltaHidesNoExtra(t *testing.T) {
	overlayOnly(t)
	u := newUser(t)
	u.write("out/tracked", "1")
	u.write("a", "1")
	u.commit()
	r := u.open()
	u.work(r, "")
	must(t, os.RemoveAll(filepath.Join(u.root, "out")))
	u.write(".gitignore", "out\n")
	u.write("out/made", "ignored")
	snap, err := r.Snapshot(t.Context(), "")
	must(t, err)
	extras, err := r.Carry(t.Context(), snap, []string{"out"})
	must(t, err)
	w, err := u.make(r, WorkspaceSpec{Dir: filepath.Join(t.TempDir(), "ws"), Snapshot: snap, Extras: extras})
	must(t, err)
	defer u.unmount(w)
	sameTree(t, tree(t, u.files(w)), tree(t, u.root))
}

func TestTrim(t *testing.T) {
	overlayOnly(t)
	u := newUser(t)
	r := u.open()
	for i := range 3 {
		for j := range 100 {
			u.write(fmt.Sprintf("%d/%d", i, j), fmt.Sprint(i, j))
		}
		u.work(r, "")
		old := time.Now().Add(time.Duration(i-10) * time.Hour)
		for _, l := range layers(r.cache, "") {
			if time.Since(l.used) < time.Minute {
				must(t, os.Chtimes(filepath.Join(l.dir, "lock"), old, old))
			}
		}
	}
	all := names(r, "")
	if len(all) != 3 {
		t.Fatalf("layers %q", all)
	}
	other := NewStore(filepath.Dir(r.CacheDir()))
	if removed, err := other.Trim(t.Context(), 0); err != nil || len(removed) != 0 {
		t.Errorf("removed %q of another's in use (%v)", removed, err)
	}
	r.store.Close()
	inUse := filepath.Join(r.cache, layersName, all[2]) // the oldest
	unlock, _, err := lock(filepath.Join(inUse, "lock"), false)
	must(t, err)
	info, _ := readLayerInfo(filepath.Join(r.cache, layersName, all[0]))
	held, _ := readLayerInfo(inUse)
	removed, err := other.Trim(t.Context(), info.Bytes+held.Bytes)
	unlock()
	if err != nil || len(removed) != 1 || filepath.Base(removed[0]) != all[1] {
		t.Errorf("removed %q of %q (%v)", removed, all, err)
	}
	if got := names(r, ""); len(got) != 2 {
		t.Errorf("left %q", got)
	}
}

// Several processes may trim at once, while others make layers.
func TestTrimAtOnce(t *testing.T) {
	u := newUser(t)
	u.write("a", "1")
	r := u.open()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 50 {
				if _, err := NewStore(filepath.Dir(r.CacheDir())).Trim(t.Context(), 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			for i := range 50 {
				own := *r
				own.store = NewStore(filepath.Dir(r.CacheDir()))
				dir, err := own.layer(t.Context(), fmt.Sprint(i%3), func(dir string) (layerInfo, error) {
					return layerInfo{Bytes: 1}, os.Mkdir(filepath.Join(dir, layerTree), 0o700)
				})
				if err != nil || !exists(filepath.Join(dir, layerTree)) {
					t.Errorf("a layer in use is gone (%v)", err)
					return
				}
				own.store.Close()
			}
		})
	}
	wg.Wait()
}

// What was the base of a branch that git has forgotten is in nobody's way.
func TestBaseOfForgottenTree(t *testing.T) {
	overlayOnly(t)
	u := newUser(t)
	u.write("a", "1")
	u.commit()
	u.git("checkout", "-q", "-b", "gone")
	u.write("only/here", "1")
	u.commit()
	u.git("checkout", "-q", "main")
	r := u.open()
	u.work(r, "gone")
	u.git("branch", "-q", "-D", "gone")
	u.git("reflog", "expire", "--expire=now", "--all")
	u.git("gc", "-q", "--prune=now")
	must(t, os.RemoveAll(r.written())) // as when it has become too old
	must(t, os.MkdirAll(filepath.Join(r.written(), "pack"), 0o700))
	u.write("b", "2")
	_, w := u.work(r, "")
	sameTree(t, tree(t, u.files(w)), tree(t, u.root))
}

// A build that fails leaves nothing, and one that dies is made again.
func TestLayerBuild(t *testing.T) {
	u := newUser(t)
	u.write("a", "1")
	r := u.open()
	boom := errors.New("boom")
	if _, err := r.layer(t.Context(), "x", func(dir string) (layerInfo, error) {
		must(t, os.MkdirAll(filepath.Join(dir, "tree/deep"), 0o700))
		must(t, os.Chmod(filepath.Join(dir, "tree"), 0o100))
		return layerInfo{}, boom
	}); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	dir := filepath.Join(r.cache, layersName, "x")
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "tree/half"), 0o700))
	got, err := r.layer(t.Context(), "x", func(dir string) (layerInfo, error) {
		if exists(filepath.Join(dir, "tree")) {
			t.Error("what the dead one left is still there")
		}
		return layerInfo{}, os.Mkdir(filepath.Join(dir, "tree"), 0o700)
	})
	if err != nil || got != dir {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFrom(t *testing.T) {
	u := newUser(t)
	u.write("file", "0")
	u.write("dir/x", "x")
	u.write("not UTF-8 \xff/x", "x")
	u.commit()
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	must(t, err)
	n := 20
	if form == Overlay {
		n = 120
	}
	var from string
	want := tree(t, u.root)
	for i := range n {
		spec := WorkspaceSpec{Dir: filepath.Join(t.TempDir(), "w"), Snapshot: snap, From: from}
		w, err := u.make(r, spec)
		if err != nil {
			t.Fatalf("%d jobs deep: %v", i, err)
		}
		sameTree(t, tree(t, u.files(w)), want)
		if t.Failed() {
			t.Fatalf("%d jobs deep", i)
		}
		files := u.files(w)
		for path, text := range map[string]string{fmt.Sprintf("made%d", i): "made", "file": fmt.Sprint(i)} {
			must(t, os.WriteFile(filepath.Join(files, path), []byte(text), 0o644))
		}
		must(t, os.Rename(filepath.Join(files, "dir"), filepath.Join(files, "dir2")))
		must(t, os.Rename(filepath.Join(files, "dir2"), filepath.Join(files, "dir")))
		if i%10 == 3 {
			gitIn(t, files, "add", "-A")
			gitIn(t, files, "commit", "-qm", fmt.Sprint("job ", i))
		}
		want = tree(t, files)
		from = w.Dir
		u.unmount(w)
	}
	w, err := u.make(r, WorkspaceSpec{Dir: filepath.Join(t.TempDir(), "w"), Snapshot: snap, From: from})
	must(t, err)
	defer u.unmount(w)
	if got := strings.Count(gitIn(t, u.files(w), "log", "--oneline"), "\n"); got != 1+(n+6)/10 {
		t.Errorf("%d commits in the log", got)
	}
	gitIn(t, u.files(w), "fsck", "--connectivity-only")
	if form == Overlay {
		rec, err := readRecord(w.Dir)
		must(t, err)
		if rec.Links == "" {
			t.Error("so many layers need short names")
		}
		u.unmount(w)
		must(t, RemoveWorkspace(t.Context(), overlay.Remove, w.Dir))
		if exists(rec.Links) {
			t.Error("the short names are left")
		}
	}
}

func TestTooManyLayers(t *testing.T) {
	var layers []string
	for i := range 1000 {
		layers = append(layers, fmt.Sprintf("/some/where/%d", i))
	}
	_, links, err := overlayOptions(layers, "/u", "/w", "on")
	var many *LayersError
	if !errors.As(err, &many) || links != "" {
		t.Errorf("%v, %q", err, links)
	}
}

// Every character that means something in the options of a mount, in every path that is in them.
func TestOddPaths(t *testing.T) {
	u := newUser(t)
	odd := u.root + ` a:b,c\d"e'f ü$`
	must(t, os.Rename(u.root, odd))
	u.root = odd
	u.write("a", "1")
	u.write(`odd:name,x\y "q"`, "1")
	u.commit()
	u.write("a", "2")
	store := NewStore(filepath.Join(filepath.Dir(u.root), `cache:x,y\z "q"`, "berth"))
	r, err := store.Open(t.Context(), u.root)
	must(t, err)
	snap, err := r.Snapshot(t.Context(), "")
	must(t, err)
	base := filepath.Join(t.TempDir(), `ws,ro:1\2 "q"`)
	must(t, os.Mkdir(base, 0o755))
	w, err := u.make(r, WorkspaceSpec{Dir: filepath.Join(base, "ws"), Snapshot: snap})
	must(t, err)
	defer u.unmount(w)
	sameTree(t, tree(t, u.files(w)), tree(t, u.root))
	if got := gitIn(t, u.files(w), "status", "--porcelain"); got != " M a\n" {
		t.Errorf("status %q", got)
	}
	must(t, os.Rename(filepath.Join(u.files(w), "a"), filepath.Join(u.files(w), "b")))
	u.unmount(w)
	must(t, RemoveWorkspace(t.Context(), overlay.Remove, w.Dir))
}
