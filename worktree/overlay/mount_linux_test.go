package overlay

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mount shows an overlay of the stack, with its uppermost layer writable, and returns where and how to end that.
func mount(t testing.TB, s Stack) (dir string, unmount func()) {
	t.Helper()
	needRoot(t, "mounting an overlay")
	dir = t.TempDir()
	work, err := os.MkdirTemp(filepath.Dir(s[0]), "work")
	if err != nil {
		t.Fatal(err)
	}
	options := "redirect_dir=on,metacopy=off,index=off,lowerdir=" + strings.Join(s[1:], ":") + ",upperdir=" + s[0] + ",workdir=" + work
	if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
		if os.Getenv("BERTH_TEST_ENGINE") == "required" {
			t.Fatal("mount an overlay:", err)
		}
		t.Skip("mount an overlay:", err)
	}
	mounted := true
	unmount = func() {
		if mounted {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error("unmount:", err)
			}
			mounted = false
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// state is what a test compares of an entry.
type state struct {
	Kind   Kind
	Perm   fs.FileMode
	Target string
	Mtime  time.Time
	Sum    [32]byte
}

func (e Entry) state(content io.Reader) state {
	s := state{Kind: e.Kind, Perm: e.Perm, Target: e.Target, Mtime: e.Mtime}
	if content != nil {
		h := sha256.New()
		io.Copy(h, content)
		h.Sum(s.Sum[:0])
	}
	return s
}

// walkDir describes a directory by means of the kernel's own lookups.
func walkDir(t testing.TB, dir string) map[string]state {
	t.Helper()
	all := map[string]state{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return pathError(path, err)
		}
		rel, _ := filepath.Rel(dir, path)
		e := newEntry(rel, &st)
		var content io.Reader
		switch e.Kind {
		case Link:
			e.Target, err = os.Readlink(path)
		case File:
			var f *os.File
			if f, err = os.Open(path); err == nil {
				defer f.Close()
				content = f
			}
		}
		all[rel] = e.state(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// stateIn adds a file's content to an entry's state.
func stateIn(t testing.TB, s Stack, e Entry) state {
	t.Helper()
	if e.Kind != File {
		return e.state(nil)
	}
	f, opened, err := s.Open(e.Path)
	if err != nil {
		t.Fatalf("open %q: %v", e.Path, err)
	}
	defer f.Close()
	if opened != e {
		t.Fatalf("open %q: %+v, want %+v", e.Path, opened, e)
	}
	return e.state(f)
}

func listed(t testing.TB, s Stack) map[string]state {
	t.Helper()
	all := map[string]state{}
	if err := s.List(t.Context(), ".", func(e Entry) error {
		if _, twice := all[e.Path]; twice {
			t.Errorf("%q is listed twice", e.Path)
		}
		if _, parent := all[filepath.Dir(e.Path)]; !parent && e.Path != "." {
			t.Errorf("%q is listed before what it is in", e.Path)
		}
		all[e.Path] = stateIn(t, s, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// applied carries out the changes of the upper n layers on what the others show, as a user of Changes would, and returns how
// many were told.
func applied(t testing.TB, s Stack, n int) (map[string]state, int) {
	t.Helper()
	all := map[string]state{".": {Kind: Dir}}
	if n < len(s) {
		all = listed(t, s[n:])
	}
	told := map[string]Kind{}
	if err := s.Changes(t.Context(), n, func(e Entry) error {
		if was, twice := told[e.Path]; twice && (was != Gone || e.Kind == Gone) {
			t.Errorf("%q is told as %s and as %s", e.Path, was, e.Kind)
		}
		told[e.Path] = e.Kind
		was, there := all[e.Path]
		if e.Kind == Gone {
			for p := range all {
				if p == e.Path || strings.HasPrefix(p, e.Path+"/") {
					delete(all, p)
				}
			}
			return nil
		}
		if there && (was.Kind == Dir) != (e.Kind == Dir) {
			t.Errorf("%q was %s, is %s, and was not told as gone", e.Path, was.Kind, e.Kind)
		}
		if parent := all[filepath.Dir(e.Path)]; parent.Kind != Dir {
			t.Errorf("%q has no directory: %q", e.Path, parent.Kind)
		}
		all[e.Path] = stateIn(t, s, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all, len(told)
}

func compare(t testing.TB, what string, got, want map[string]state) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[p]; !ok {
			t.Errorf("%s: no %q, which is a %s", what, p, want[p].Kind)
		} else if g != want[p] {
			t.Errorf("%s: %q is %+v, want %+v", what, p, g, want[p])
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: %q is a %s too many", what, p, got[p].Kind)
		}
	}
}

// TestSeesWhatTheKernelSees does random things in chains of real overlays.
func TestSeesWhatTheKernelSees(t *testing.T) {
	needRoot(t, "mounting an overlay")
	first, rounds := uint64(time.Now().UnixNano()), 400
	if s := os.Getenv("BERTH_TEST_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		rounds = 1
	} else if testing.Short() {
		rounds = 60
	}
	seen := map[string]int{}
	for i := range rounds {
		seed := first + uint64(i)
		if !t.Run("BERTH_TEST_SEED="+strconv.FormatUint(seed, 10), func(t *testing.T) { randomChain(t, seed, seen) }) {
			break
		}
	}
	t.Log("notes of the kernel's in the layers:", seen)
	for _, note := range []string{attrOpaque, attrRedirect + " /", attrRedirect + " name", "whiteout"} {
		if !testing.Short() && rounds > 1 && seen[note] < rounds/10 {
			t.Errorf("too few %s to prove anything: %d", note, seen[note])
		}
	}
}

func randomChain(t *testing.T, seed uint64, seen map[string]int) {
	r := rand.New(rand.NewPCG(seed, 0))
	root := t.TempDir()
	layer := func(i int) string {
		dir := filepath.Join(root, strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	s := Stack{layer(0)}
	script := randomChanges(r, s[0], 20)
	for i := 1; i <= 1+r.IntN(5); i++ {
		s = append(Stack{layer(i)}, s...)
		merged, unmount := mount(t, s)
		script = append(script, "-- layer "+strconv.Itoa(i))
		script = append(script, randomChanges(r, merged, 3+r.IntN(12))...)
		want := walkDir(t, merged)
		unmount()
		compare(t, "list", listed(t, s), want)
		for n := range len(s) + 1 {
			got, _ := applied(t, s, n)
			got["."] = want["."] // the top itself is not told
			compare(t, "changes of "+strconv.Itoa(n), got, want)
		}
		if t.Failed() {
			t.Fatal(strings.Join(script, "\n"))
		}
	}
	for _, l := range s {
		count(t, l, seen)
	}
}

// count counts what overlayfs has noted in a layer.
func count(t *testing.T, layer string, seen map[string]int) {
	filepath.WalkDir(layer, func(path string, d fs.DirEntry, err error) error {
		if d.Type()&fs.ModeCharDevice != 0 {
			seen["whiteout"]++
		}
		var buf [256]byte
		if n, err := unix.Lgetxattr(path, attrOpaque, buf[:]); err == nil && string(buf[:n]) == "y" {
			seen[attrOpaque]++
		}
		if n, err := unix.Lgetxattr(path, attrRedirect, buf[:]); err == nil && n > 0 {
			if buf[0] == '/' {
				seen[attrRedirect+" /"]++
			} else {
				seen[attrRedirect+" name"]++
			}
		}
		return err
	})
}

// randomChanges does n random things below dir, and tells which. Many fail, as they may.
func randomChanges(r *rand.Rand, dir string, n int) (script []string) {
	names := []string{"a", "b", "c", "d", "e\nf \xff"}
	path := func() string { // of what is there, mostly
		p := dir
		for range 1 + r.IntN(4) {
			name := names[r.IntN(len(names))]
			if entries, err := os.ReadDir(p); err == nil && len(entries) > 0 && r.IntN(3) > 0 {
				name = entries[r.IntN(len(entries))].Name()
			}
			if info, err := os.Lstat(p); err != nil || !info.IsDir() {
				break
			}
			p = filepath.Join(p, name)
		}
		return p
	}
	text := func() []byte { return []byte(strconv.Itoa(r.IntN(1000))) }
	write := func(p string, data []byte, perm fs.FileMode) error { // waits for nobody at a pipe
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, perm)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Write(data)
		return err
	}
	ops := []struct {
		name string
		do   func(p, q string) error
	}{
		{"write", func(p, _ string) error { return write(p, text(), 0o644) }},
		{"write", func(p, _ string) error { return write(p, text(), 0o644) }},
		{"empty", func(p, _ string) error { return write(p, nil, 0o600) }},
		{"tree", func(p, _ string) error {
			return errors.Join(os.MkdirAll(p+"/a/b", 0o755), write(p+"/a/b/c", text(), 0o644), write(p+"/d", text(), 0o644))
		}},
		{"remove", func(p, _ string) error { return os.RemoveAll(p) }},
		{"anew", func(p, _ string) error { return errors.Join(os.RemoveAll(p), os.Mkdir(p, 0o755)) }},
		{"anew", func(p, _ string) error {
			return errors.Join(os.RemoveAll(p), os.MkdirAll(p+"/b", 0o755), write(p+"/b/x", text(), 0o644))
		}},
		{"rename", os.Rename},
		{"rename", os.Rename},
		{"rename", os.Rename},
		{"rename beside", func(p, _ string) error { return os.Rename(p, filepath.Dir(p)+"/"+names[r.IntN(len(names))]) }},
		{"rename beside", func(p, _ string) error { return os.Rename(p, filepath.Dir(p)+"/"+names[r.IntN(len(names))]) }},
		{"there and back", func(p, q string) error { return errors.Join(os.Rename(p, q+".x"), os.Rename(q+".x", p)) }},
		{"exchange", func(p, q string) error {
			return unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE)
		}},
		{"chmod", func(p, _ string) error { return os.Chmod(p, fs.FileMode(r.IntN(0o1000))) }},
		{"as link", func(p, q string) error { return errors.Join(os.RemoveAll(p), os.Symlink(filepath.Base(q), p)) }},
		{"as file", func(p, _ string) error { return errors.Join(os.RemoveAll(p), write(p, text(), 0o755)) }},
		{"hard link", func(p, q string) error { return os.Link(p, q) }},
		{"fifo", func(p, _ string) error { return unix.Mkfifo(p, 0o600) }},
		{"touch", func(p, _ string) error { return os.Chtimes(p, time.Time{}, time.Unix(r.Int64N(1e9), 5)) }},
	}
	for range n {
		op, p, q := ops[r.IntN(len(ops))], path(), path()
		if err := op.do(p, q); err == nil {
			script = append(script, op.name+" "+strconv.Quote(p)+" "+strconv.Quote(q))
		}
	}
	return script
}

// TestChangesCostWhatTheUpperLayersHold has a large base, few changes and a stack of many layers.
func TestChangesCostWhatTheUpperLayersHold(t *testing.T) {
	root := t.TempDir()
	base := filepath.Join(root, "base")
	for i := range 200 {
		dir := filepath.Join(base, "d"+strconv.Itoa(i%10), "e"+strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := Stack{base}
	for i := range 30 {
		upper := filepath.Join(root, strconv.Itoa(i))
		if err := os.Mkdir(upper, 0o755); err != nil {
			t.Fatal(err)
		}
		s = append(Stack{upper}, s...)
	}
	merged, unmount := mount(t, s)
	for _, err := range []error{
		os.WriteFile(merged+"/d1/e1/f", []byte("x"), 0o644),
		os.RemoveAll(merged + "/d2/e2"),
		os.RemoveAll(merged + "/d3"),
		os.Mkdir(merged+"/d3", 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := walkDir(t, merged)
	unmount()
	for _, n := range []int{1, 5} {
		got, told := applied(t, s, n)
		got["."] = want["."]
		compare(t, "changes", got, want)
		if told != 6 { // d1, d1/e1, d1/e1/f, d2, d2/e2, d3
			t.Errorf("%d entries told of the upper %d layers, want 6", told, n)
		}
	}
}
