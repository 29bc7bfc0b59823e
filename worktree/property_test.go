package worktree

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seedVariable names the one round of TestProperty that is to be run, as it prints it when it fails.
const seedVariable = "BERTH_TEST_SEED"

// TestProperty evolves random repositories. Whatever is in one, a job sees it; whatever a job does, its diff and apply make the same of the
// snapshot and of the user's files.
func TestProperty(t *testing.T) {
	if s := os.Getenv(seedVariable); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		check(t, err)
		property(t, seed)
		return
	}
	long := 40 * time.Second // for each form
	if testing.Short() {
		long = 7 * time.Second
	}
	n := 0
	for end, seed := time.Now().Add(long), uint64(time.Now().UnixNano()); time.Now().Before(end) && !t.Failed(); n++ {
		t.Run(fmt.Sprint("seed", seed+uint64(n)), func(t *testing.T) { property(t, seed+uint64(n)) })
	}
	t.Logf("%d repositories", n)
}

func property(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Logf("form %s; again with %s=%d", form, seedVariable, seed)
		}
	}()
	rnd := rand.New(rand.NewPCG(seed, 0))
	format := []string{"sha1", "sha1", "sha1", "sha256"}[rnd.IntN(4)]
	u := newUser(t, "--object-format="+format)
	home := filepath.Dir(u.root)
	u.git("config", "--global", "core.excludesFile", filepath.Join(home, "excludes"))
	check(t, os.WriteFile(filepath.Join(home, "excludes"), []byte("*.swp\n"), 0o644),
		os.WriteFile(filepath.Join(u.root, ".git/info/exclude"), []byte("/private\n"), 0o644))
	for i := range 10 + rnd.IntN(60) { // so that not every change is one of a tenth
		u.write(fmt.Sprintf("src/p%d/f%d.txt", i%7, i), strings.Repeat(fmt.Sprintf("line of %d\n", i), rnd.IntN(20)))
	}
	r := u.open()
	user := &editor{t: t, rnd: rnd, root: u.root}
	user.edit(20)
	for range 4 {
		switch rnd.IntN(5) {
		case 0:
			u.git("add", "-A")
		case 1, 2:
			u.commit()
		case 3:
			u.git("add", "-f", "-A") // what is ignored as well
		}
		u.step(r, user)
		if t.Failed() {
			return
		}
		user.edit(1 + rnd.IntN(25))
	}
}

// step takes a snapshot, has one or a chain of jobs change it, and takes the result back.
func (u user) step(r *Repo, by *editor) {
	t, rnd := u.t, by.rnd
	ctx := t.Context()
	snap, err := r.Snapshot(ctx, "")
	check(t, err)
	before := tree(t, u.root)
	excludes, err := os.ReadFile(filepath.Join(u.root, ".git/info/exclude"))
	check(t, err)
	shown := pick(before, u.git("ls-files", "-z", "--cached", "--others", "--exclude-standard"))
	want := shown
	tracked := maps.Clone(shown)
	var from string
	var w *Workspace
	for range 1 + rnd.IntN(4)/3*(1+rnd.IntN(3)) {
		w, err = u.make(r, WorkspaceSpec{Dir: filepath.Join(t.TempDir(), "w"), Snapshot: snap, From: from})
		check(t, err)
		defer u.unmount(w)
		files := u.files(w)
		sameTree(t, tree(t, files), want)
		if t.Failed() {
			t.Logf("the job sees other files; from %q", from)
			return
		}
		job := &editor{t: t, rnd: rnd, root: files}
		job.edit(rnd.IntN(30))
		switch rnd.IntN(4) {
		case 0:
			gitIn(t, files, "add", "-A")
			gitIn(t, files, "commit", "-q", "--allow-empty", "-m", "job")
			tracked = maps.Clone(shown)
		case 1:
			gitIn(t, files, "add", "-A", "-f")
			gitIn(t, files, "commit", "-q", "--allow-empty", "-m", "job")
			tracked = maps.Clone(shown)
		}
		if head := strings.TrimSpace(headOf(files)); head != "" && head != snap.Commit {
			for _, p := range splitZ([]byte(gitIn(t, files, "ls-tree", "-r", "-z", "--name-only", "HEAD"))) {
				tracked[p] = ""
			}
		}
		if rnd.IntN(2) == 0 {
			job.edit(rnd.IntN(8))
		}
		want = tree(t, files)
		from = w.Dir
		if rnd.IntN(2) == 0 { // the layers are read the same after the job's end
			u.unmount(w)
		}
	}
	files := u.files(w)
	if w.Overlay != "" && len(tree(t, files)) != len(want) {
		check(t, mountOverlay(files, w.Overlay))
	}
	made := pick(want, others(t, files, r.format, excludes)+strings.Join(append(keys(tracked), ""), "\x00"))
	u.unmount(w)

	res := job{t, w.Dir, files}.result(r, snap)
	if len(res.Skipped) > 0 || res.NoHead != "" {
		t.Errorf("skipped %v, no head: %s", res.Skipped, res.NoHead)
	}
	sameTree(t, restored(t, r, res.Tree), made)
	if t.Failed() {
		t.Log("the result is not what the job made")
		return
	}
	patched(t, r, snap, res, shown, made)
	if t.Failed() {
		t.Log("the patch is not what the job made")
		return
	}

	var conflict *ConflictError
	_, err = r.Apply(ctx, snap, res)
	if errors.As(err, &conflict) { // only files that git ignores can be in the way
		sameTree(t, tree(t, u.root), before)
		if len(shown) == len(before) {
			t.Errorf("conflicts though nothing is ignored: %+v", conflict.Conflicts)
		}
		for p := range before {
			if _, ok := shown[p]; !ok {
				check(t, os.Remove(filepath.Join(u.root, p)))
				delete(before, p)
			}
		}
		_, err = r.Apply(ctx, snap, res)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	after := maps.Clone(before)
	maps.DeleteFunc(after, func(p, _ string) bool { _, ok := shown[p]; return ok })
	maps.Copy(after, made)
	sameTree(t, tree(t, u.root), after)
	again, err := r.Apply(ctx, snap, res)
	if err != nil || len(again.Written)+len(again.Removed) > 0 {
		t.Errorf("the second time: %+v, %v", again, err)
	}
}

// headOf is the commit at HEAD, "" before the first.
func headOf(dir string) string {
	cmd := exec.Command("git", "rev-parse", "-q", "--verify", "HEAD")
	cmd.Dir = dir
	out, _ := cmd.Output()
	return string(out)
}

func keys(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// pick is the part of a tree that a list ending in zeros names.
func pick(tree map[string]string, list string) map[string]string {
	out := map[string]string{}
	for _, p := range splitZ([]byte(list)) {
		if v, ok := tree[p]; ok {
			out[p] = v
		}
	}
	return out
}

// others are the files that git does not ignore, when it knows of no file yet.
func others(t testing.TB, dir, format string, exclude []byte) string {
	repo := filepath.Join(t.TempDir(), "git")
	gitIn(t, dir, "init", "-q", "--bare", "--object-format="+format, repo)
	check(t, os.WriteFile(filepath.Join(repo, "info/exclude"), exclude, 0o644))
	return gitIn(t, dir, "--git-dir="+repo, "--work-tree="+dir, "ls-files", "-z", "--others", "--exclude-standard")
}

// patched checks that git makes the job's files of a clean checkout of the snapshot with the patch.
func patched(t testing.TB, r *Repo, snap Snapshot, res Result, shown, made map[string]string) {
	dir := t.TempDir()
	gitIn(t, dir, "init", "-q", "--object-format="+r.format)
	_, err := CopyOut(t.Context(), r.TreeReader(snap.Tree), nil, ".", dir)
	check(t, err)
	sameTree(t, tree(t, dir), shown)
	var patch bytes.Buffer
	check(t, r.Diff(t.Context(), &patch, snap.Tree, res.Tree, DiffOptions{}))
	if strings.Contains(patch.String(), " /") && hasTail(shown, made) {
		return // git apply does not read git's own patch of an empty file below a directory whose name ends in a space
	}
	if patch.Len() > 0 {
		cmd := exec.Command("git", "apply", "--binary", "--whitespace=nowarn")
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(patch.Bytes())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("git apply: %v\n%s\n%s", err, out, patch.String())
			return
		}
	}
	sameTree(t, tree(t, dir), made)
}

// hasTail tells whether a directory's name ends in a space.
func hasTail(trees ...map[string]string) bool {
	for _, tree := range trees {
		for p := range tree {
			if strings.Contains(p, " /") {
				return true
			}
		}
	}
	return false
}

// editor changes files at random, and never the .git at their top.
type editor struct {
	t    testing.TB
	rnd  *rand.Rand
	root string
}

// editNames are few, so that changes meet.
var editNames = append([]string{"a", "b", "c", "build", "x.log", "y.log", "z.swp", "private", ".gitignore", ".hidden", "src", "p1", "f1.txt", "aa", "a.b", "a-"}, oddNames...)

var ignoreRules = []string{"*.log", "build/", "/a", "!x.log", "a/b", "*", "!*/", "!a", "**/c", "# comment", `\#hash`, `\!bang`, "with space", `tail\ `, "src/*", "!src/p1", "[ab]", "é*", "*.txt", "-dash"}

func (e *editor) name() string {
	name := editNames[e.rnd.IntN(len(editNames))]
	if strings.HasSuffix(name, " ") && e.rnd.IntN(4) > 0 { // see patched
		return "no tail"
	}
	return name
}

// below lists what is there, from the top.
func (e *editor) below() (all, dirs []string) {
	dirs = []string{"."}
	err := filepath.WalkDir(e.root, func(p string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(e.root, p)
		switch {
		case err != nil:
			return err
		case rel == ".git":
			return filepath.SkipDir
		case rel == ".":
			return nil
		case d.IsDir():
			dirs = append(dirs, rel)
		}
		all = append(all, rel)
		return nil
	})
	check(e.t, err)
	return all, dirs
}

func (e *editor) content() []byte {
	switch e.rnd.IntN(8) {
	case 0:
		return nil
	case 1:
		b := make([]byte, e.rnd.IntN(3000))
		for i := range b {
			b[i] = byte(e.rnd.Uint32())
		}
		return b
	case 2:
		return []byte("no end of line")
	case 3:
		return bytes.Repeat([]byte("carriage return\r\n"), 1+e.rnd.IntN(4))
	case 4:
		return fmt.Append(nil, e.rnd.IntN(3), "\n") // of one size
	}
	var b bytes.Buffer
	for range e.rnd.IntN(30) {
		fmt.Fprintln(&b, "line", e.rnd.IntN(40))
	}
	return b.Bytes()
}

func (e *editor) rules() []byte {
	var b bytes.Buffer
	for range 1 + e.rnd.IntN(3) {
		b.WriteString(ignoreRules[e.rnd.IntN(len(ignoreRules))] + "\n")
	}
	return b.Bytes()
}

// put makes a file, link or directory at path, where nothing is.
func (e *editor) put(path string, depth int) {
	at := filepath.Join(e.root, path)
	kind := e.rnd.IntN(10)
	switch {
	case filepath.Base(path) == ".gitignore" && kind < 9:
		check(e.t, os.WriteFile(at, e.rules(), 0o644))
	case kind < 2:
		targets := append([]string{"nowhere", "/etc/passwd", "../..", ".", "./a//b", "build/", "../src"}, editNames[:4]...)
		check(e.t, os.Symlink(targets[e.rnd.IntN(len(targets))], at))
	case kind < 5 && depth < 3:
		check(e.t, os.Mkdir(at, 0o755))
		for range e.rnd.IntN(4) {
			if name := e.name(); !exists(filepath.Join(at, name)) {
				e.put(filepath.Join(path, name), depth+1)
			}
		}
	default:
		modes := []os.FileMode{0o644, 0o644, 0o755, 0o600, 0o700, 0o444, 0o654}
		check(e.t, os.WriteFile(at, e.content(), 0o644), os.Chmod(at, modes[e.rnd.IntN(len(modes))]))
	}
}

func (e *editor) edit(n int) {
	for range n {
		e.one()
	}
}

func (e *editor) one() {
	all, dirs := e.below()
	fresh := filepath.Join(dirs[e.rnd.IntN(len(dirs))], e.name())
	if len(all) == 0 || len(all) < 200 && e.rnd.IntN(3) == 0 {
		check(e.t, os.RemoveAll(filepath.Join(e.root, fresh)))
		e.put(fresh, 0)
		return
	}
	old := all[e.rnd.IntN(len(all))]
	if e.rnd.IntN(3) == 0 && len(dirs) > 1 {
		old = dirs[1+e.rnd.IntN(len(dirs)-1)]
	}
	at, to := filepath.Join(e.root, old), filepath.Join(e.root, fresh)
	info, err := os.Lstat(at)
	check(e.t, err)
	switch e.rnd.IntN(8) {
	case 0, 1: // a new name, perhaps in place of something
		if strings.HasPrefix(fresh+"/", old+"/") || strings.HasPrefix(old+"/", fresh+"/") {
			return
		}
		check(e.t, os.RemoveAll(to), os.Rename(at, to))
		if e.rnd.IntN(3) == 0 {
			e.put(old, 1)
		}
	case 2: // and back
		check(e.t, os.Rename(at, at+".tmp~"), os.Rename(at+".tmp~", at))
	case 3:
		check(e.t, os.RemoveAll(at))
	case 4: // something else, or the same again
		check(e.t, os.RemoveAll(at))
		e.put(old, 0)
	case 5:
		if info.Mode().IsRegular() {
			check(e.t, os.Chmod(at, info.Mode().Perm()^0o111))
		} else if info.IsDir() {
			check(e.t, os.Chmod(at, []os.FileMode{0o700, 0o755, 0o775}[e.rnd.IntN(3)]))
		}
	default:
		if !info.Mode().IsRegular() {
			return
		}
		if e.rnd.IntN(3) == 0 {
			past := time.Unix(1e9, 0)
			defer func() { check(e.t, os.Chtimes(at, past, past)) }()
		}
		data, err := os.ReadFile(at)
		check(e.t, err)
		if filepath.Base(old) == ".gitignore" {
			data = e.rules()
		} else if len(data) > 0 && e.rnd.IntN(2) == 0 { // of the same size
			data[e.rnd.IntN(len(data))] ^= 1
		} else {
			data = append(data, e.content()...)
		}
		check(e.t, os.WriteFile(at, data, 0o644))
	}
}
