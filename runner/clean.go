package runner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"berth/worktree"
)

// clean keeps what the jobs of a session have changed, and then removes all their files but records and logs. Nothing of the session may run any more. Where something
// could not be kept, nothing is removed: it is worth another try.
func clean(ctx context.Context, s Info, results *Results) error {
	records, err := s.Jobs()
	if err != nil {
		return err
	}
	if err := results.Keep(ctx, records...); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, jobsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var dirs, workspaces []string
	for _, e := range entries { // also of a job whose record is damaged
		job := filepath.Join(s.Dir, jobsDir, e.Name())
		workspaces = append(workspaces, filepath.Join(job, workDir))
		for _, d := range []string{workDir, homeDir, tmpDir, etcDir} {
			dirs = append(dirs, filepath.Join(job, d))
		}
	}
	named, err := os.ReadDir(filepath.Join(s.Dir, namedDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range named {
		workspaces = append(workspaces, filepath.Join(s.Dir, namedDir, e.Name()))
	}
	var errs []error
	for _, w := range workspaces {
		errs = append(errs, worktree.ReleaseWorkspace(w))
	}
	dirs = append(dirs, filepath.Join(s.Dir, namedDir))
	return errors.Join(append(errs, results.hands.Remove(ctx, dirs...))...)
}
