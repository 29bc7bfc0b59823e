package worktree

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// user is a repository of a user's, with git as the user runs it.
type user struct {
	t    testing.TB
	root string
}

func newUser(t testing.TB, initArgs ...string) user {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range os.Environ() {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "GIT_") {
			t.Setenv(k, v) // restores it
			os.Unsetenv(k)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	u := user{t, filepath.Join(home, "my project")}
	if err := os.Mkdir(u.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"user.name=U", "user.email=u@example.org", "protocol.file.allow=always", "init.defaultBranch=main", "advice.addEmbeddedRepo=false"} {
		k, v, _ := strings.Cut(c, "=")
		u.git("config", "--global", k, v)
	}
	u.git(append([]string{"init", "-q"}, initArgs...)...)
	return u
}

func (u user) git(args ...string) string {
	u.t.Helper()
	return gitIn(u.t, u.root, args...)
}

func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %q in %s: %v: %s", args, dir, err, stderr.String())
	}
	return string(out)
}

func (u user) write(path, text string) {
	u.t.Helper()
	p := filepath.Join(u.root, path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

func (u user) commit() {
	u.t.Helper()
	u.git("add", "-A")
	u.git("commit", "-q", "--allow-empty", "-m", "c")
}

func (u user) open() *Repo {
	u.t.Helper()
	r, err := NewStore(filepath.Join(filepath.Dir(u.root), ".cache", "berth")).Open(u.t.Context(), u.root)
	if err != nil {
		u.t.Fatal(err)
	}
	return r
}

// work makes a snapshot and a workspace whose private git works without a container.
func (u user) work(r *Repo, ref string) (Snapshot, *Workspace) {
	u.t.Helper()
	snap, err := r.Snapshot(u.t.Context(), ref)
	if err != nil {
		u.t.Fatal(err)
	}
	return snap, u.workspace(r, snap)
}

func (u user) workspace(r *Repo, snap Snapshot) *Workspace {
	u.t.Helper()
	w, err := u.make(r, WorkspaceSpec{Dir: filepath.Join(u.t.TempDir(), "ws"), Snapshot: snap})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { u.unmount(w) })
	return w
}

// form is that of the workspaces that tests make: all run with each that is possible here.
var form = Plain

// byForm are the tests that the plain form alone could fail; with -short it is spared the others.
const byForm = "RoundTrip|HasEveryKind|WithoutChanges|TakesCommits|TestFrom|Carry|Submodules|Remove|Kept|NotRead"

func TestMain(m *testing.M) {
	flag.Parse()
	measures := flag.Lookup("test.bench").Value.String() != ""
	code := 0
	if canMount {
		form = Overlay
		code = m.Run()
		form = Plain
		if run := flag.Lookup("test.run"); testing.Short() && run.Value.String() == "" {
			run.Value.Set(byForm)
		}
	}
	if code == 0 && !(canMount && measures) {
		code = m.Run()
	}
	os.Exit(code)
}

// make makes a workspace in which files can be looked at and git works without a container. u.unmount undoes it.
func (u user) make(r *Repo, spec WorkspaceSpec) (*Workspace, error) {
	base, err := resolve(filepath.Dir(spec.Dir))
	if err != nil {
		return nil, err
	}
	spec.Form = form
	objects := filepath.Join(base, "objects")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, err
	}
	r.store.objectsAt = objects
	w, err := r.newWorkspace(u.t.Context(), spec)
	if err != nil {
		return nil, err
	}
	u.t.Cleanup(func() { ReleaseWorkspace(w.Dir) })
	for _, m := range w.Mounts { // what the engine's mounts would do
		if filepath.Dir(m.Target) == objects {
			if err := os.Symlink(m.Source, m.Target); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
	}
	if w.Overlay != "" {
		if err := os.MkdirAll(u.files(w), 0o755); err != nil {
			return nil, err
		}
		return w, mountOverlay(u.files(w), w.Overlay)
	}
	return w, nil
}

// files is where the files of a workspace are that u.make has made.
func (u user) files(w *Workspace) string {
	if w.Overlay != "" {
		return w.Dir + ".mounted"
	}
	return filepath.Join(w.Dir, treeName)
}

func (u user) unmount(w *Workspace) {
	if w.Overlay != "" {
		unmount(u.files(w))
	}
}

// tree lists what is below root, without .git and what skip names: mode class and contents by path.
func tree(t testing.TB, root string, skip ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		for _, s := range append(skip, ".git") {
			if rel == s || d.Name() == ".git" {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			out[rel] = "link " + to
		default:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out[rel] = fmt.Sprintf("%t %q", info.Mode()&0o100 != 0, data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t testing.TB, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if g, ok := got[p]; !ok || g != w {
			t.Errorf("%q: got %.80s, want %.80s", p, g, w)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%q should not be there", p)
		}
	}
}

// fingerprint is every byte, mode and time below dir.
func fingerprint(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s := fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), info.Size())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		out[p] = s
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}
