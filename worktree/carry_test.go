package worktree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// carried is what a job sees with paths carried, or with none by default.
func (u user) carried(r *Repo, ref string, paths ...string) (map[string]string, error) {
	u.t.Helper()
	snap, err := r.Snapshot(u.t.Context(), ref)
	must(u.t, err)
	extras, err := r.Carry(u.t.Context(), snap, paths)
	if err != nil {
		return nil, err
	}
	w, err := u.make(r, WorkspaceSpec{Dir: filepath.Join(u.t.TempDir(), "ws"), Snapshot: snap, Extras: extras})
	must(u.t, err)
	defer u.unmount(w)
	return tree(u.t, u.files(w)), nil
}

func TestCarryDependencies(t *testing.T) {
	u := newUser(t)
	u.write(".gitignore", "node_modules\n.venv\nbundle/\n.env\n")
	u.write("package-lock.json", "1")
	u.write("web/package.json", "{}")
	u.write("py/uv.lock", "1")
	u.write("rb/Gemfile.lock", "1")
	u.write("other/yarn.lock", "1")
	u.commit()
	u.write(".env", "s3cret")
	u.write("node_modules/pkg/index.js", "1")
	u.write("web/node_modules/pkg/index.js", "2")
	u.write("py/.venv/bin/python", "3")
	must(t, os.Symlink("python", filepath.Join(u.root, "py/.venv/bin/python3")))
	u.write("rb/vendor/bundle/gem", "4")
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "f"), nil, 0o644))
	must(t, os.Symlink(outside, filepath.Join(u.root, "other/node_modules")))
	r := u.open()
	want := tree(t, u.root, ".env", "other/node_modules")
	got, err := u.carried(r, "")
	must(t, err)
	sameTree(t, got, want)
	got, err = u.carried(r, "HEAD")
	must(t, err)
	sameTree(t, got, want)
	if made := names(r, "carry-"); len(made) != 1 {
		t.Errorf("layers %q", made)
	}
	// What was installed for another lock file stays behind.
	u.write("package-lock.json", "2")
	u.commit()
	got, err = u.carried(r, "HEAD~")
	must(t, err)
	for _, p := range []string{"node_modules/pkg/index.js", "web/node_modules/pkg/index.js"} {
		if _, ok := got[p]; ok {
			t.Errorf("%s is there", p)
		}
	}
	// A new installation is seen.
	must(t, os.Rename(filepath.Join(u.root, "node_modules/pkg"), filepath.Join(u.root, "node_modules/pkg2")))
	got, err = u.carried(r, "")
	must(t, err)
	sameTree(t, got, tree(t, u.root, ".env", "other/node_modules"))
}

func TestCarryPaths(t *testing.T) {
	u := newUser(t)
	u.write(".gitignore", "/data\n.env\n")
	u.write("a", "1")
	u.commit()
	u.write(".env", "s3cret")
	u.write("data/deep/x", "1")
	u.write("data/y", "1")
	must(t, os.Chmod(filepath.Join(u.root, "data/y"), 0o755))
	must(t, syscall.Mkfifo(filepath.Join(u.root, "data/pipe"), 0o644))
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.MkdirAll(filepath.Join(secret, "in"), 0o755))
	must(t, os.Symlink(secret, filepath.Join(u.root, "data/link")))
	must(t, os.Symlink("data", filepath.Join(u.root, "alias")))
	u.git("add", "alias")
	r := u.open()
	must(t, os.Remove(filepath.Join(u.root, "data/pipe")))
	want := tree(t, u.root)
	got, err := u.carried(r, "", ".env", "data")
	must(t, err)
	sameTree(t, got, want)
	// Times may be all that has changed.
	u.write("data/y", "2")
	got, err = u.carried(r, "", ".env", filepath.Join(u.root, "data"))
	must(t, err)
	if got["data/y"] != `true "2"` {
		t.Errorf("data/y is %s", got["data/y"])
	}
	for _, bad := range []string{"", ".", "..", "../x", "/etc/passwd", "data/../../x", ".git", ".git/config", "data/link/in", "alias/y", "absent", "a/b", "data/\x00"} {
		var refused *CarryError
		if _, err := r.Carry(t.Context(), Snapshot{}, []string{bad}); !errors.As(err, &refused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSetupKey(t *testing.T) {
	u := newUser(t)
	for _, f := range []string{"package-lock.json", "web/package-lock.json", "web/deep/package-lock.json", "src/a"} {
		u.write(f, "1")
	}
	r := u.open()
	key := func(patterns ...string) string {
		t.Helper()
		snap, err := r.Snapshot(t.Context(), "")
		must(t, err)
		k, err := r.Key(t.Context(), snap, patterns)
		must(t, err)
		return k
	}
	all := [][]string{{}, {"package-lock.json"}, {"*/package-lock.json"}, {"**/package-lock.json"}, {"web"}, {"src/?"}}
	var before []string
	for _, p := range all {
		before = append(before, key(p...))
	}
	u.write("web/deep/package-lock.json", "2")
	var changed []int
	for i, p := range all {
		if key(p...) != before[i] {
			changed = append(changed, i)
		}
	}
	if want := []int{3, 4}; !slices.Equal(changed, want) {
		t.Errorf("changed: %v, want %v", changed, want)
	}
	snap, err := r.Snapshot(t.Context(), "")
	must(t, err)
	for _, bad := range []string{"absent", "[", "src/a/b"} {
		var refused *KeyError
		if _, err := r.Key(t.Context(), snap, []string{bad}); !errors.As(err, &refused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
