package worktree

import (
	"os/exec"
	"testing"

	"berth/worktree/overlay"
)

// job is a workspace as a job has it: files is where it works.
type job struct {
	t          testing.TB
	dir, files string
}

// job makes a workspace from a snapshot, in the form that is being tested.
func (u user) job(r *Repo, snap Snapshot) job {
	u.t.Helper()
	w := u.workspace(r, snap)
	return job{u.t, w.Dir, u.files(w)}
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
