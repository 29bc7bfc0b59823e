package worktree

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"berth/worktree/overlay"
)

// job is a workspace as a job has it: files is where it works.
type job struct {
	t          testing.TB
	dir, files string
}

// job makes a workspace of a form from a snapshot.
func (u user) job(r *Repo, snap Snapshot, form string) job {
	u.t.Helper()
	w := u.workspace(r, snap)
	j := job{u.t, w.Dir, filepath.Join(w.Dir, treeName)}
	dotGit := filepath.Join(j.files, ".git")
	check(u.t, os.Remove(dotGit), os.Rename(filepath.Join(w.Dir, gitName), dotGit))
	rec := map[string]any{"form": form, "tree": snap.Tree, "commit": snap.Commit}
	if form != Plain {
		rec["layers"] = []string{w.Dir + "/base"}
		upper := w.Dir + "/upper"
		check(u.t, os.Mkdir(upper, 0o755), os.Mkdir(w.Dir+"/ovl", 0o755), os.Rename(dotGit, upper+"/.git"),
			os.Rename(j.files, w.Dir+"/base"), os.Mkdir(j.files, 0o755))
		options := fmt.Sprintf("lowerdir=%s/base,upperdir=%s,workdir=%s/ovl,redirect_dir=on", w.Dir, upper, w.Dir)
		if err := unix.Mount("overlay", j.files, "overlay", 0, options); err != nil {
			u.t.Skip("overlay mounts need root: ", err)
		}
		u.t.Cleanup(func() { check(u.t, unix.Unmount(j.files, 0)) })
	} else {
		x, err := r.treeIndex(u.t.Context(), snap.Tree)
		check(u.t, err)
		for i := range x.entries {
			e := &x.entries[i]
			var st unix.Stat_t
			check(u.t, unix.Lstat(filepath.Join(j.files, e.path), &st))
			e.stat = stat{uint32(st.Ctim.Sec), uint32(st.Ctim.Nsec), uint32(st.Mtim.Sec), uint32(st.Mtim.Nsec), uint32(st.Dev), uint32(st.Ino), st.Uid, st.Gid, uint32(st.Size)}
		}
		check(u.t, x.write(w.Dir+"/index", r.hashSize()))
	}
	text, err := json.Marshal(rec)
	check(u.t, err, writeFile(filepath.Join(w.Dir, recordName), string(text)))
	return j
}

// run is what the job does, as a shell script.
func (j job) run(script string) {
	j.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = j.files
	if out, err := cmd.CombinedOutput(); err != nil {
		j.t.Fatalf("%v\n%s", err, out)
	}
}

// result is what is found of the job's work.
func (j job) result(r *Repo, snap Snapshot) Result {
	j.t.Helper()
	res, err := r.Result(j.t.Context(), overlay.Local{}, j.dir, snap)
	check(j.t, err)
	return res
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// restored is a tree of the store, as files.
func restored(t testing.TB, r *Repo, id string) map[string]string {
	t.Helper()
	dest := t.TempDir()
	_, err := CopyOut(t.Context(), r.TreeReader(id), nil, ".", dest)
	check(t, err)
	return tree(t, dest)
}
