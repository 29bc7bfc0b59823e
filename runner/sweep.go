package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"berth/configs"
	"berth/runner/logstore"
	"berth/worktree"
)

// The directories of a job that go with its session; record and log stay.
const (
	workDir = "work"
	homeDir = "home"
	tmpDir  = "tmp"
	etcDir  = "etc"
)

// strayAge is how old a directory without a session file must be to be taken
// for one whose maker died, and not for one in the making.
const strayAge = time.Minute

// SweepReport says what a sweep found and removed.
type SweepReport struct {
	Sessions   []string `json:"sessions"`   // of dead processes, cleaned up now
	Containers []string `json:"containers"` // IDs, removed
	Expired    []string `json:"expired"`    // sessions whose records were too old
}

// Sweep cleans up what sessions have left whose process died: containers,
// volumes, workspaces. It removes records that are older than
// configs.Retention. It touches nothing that carries no label of ours, that is
// another owner's, or that belongs to a session whose process lives. Where
// another process sweeps already, it does nothing.
//
// connect is called only if there is something to clean up, or with all, which
// has containers looked for whose session nobody remembers. The caller closes
// what it returned.
func Sweep(ctx context.Context, dirs configs.Dirs, connect func(context.Context) (Engine, error), all bool) (SweepReport, error) {
	var report SweepReport
	state := StateDir(dirs.State)
	if _, err := os.Stat(filepath.Join(dirs.State, sessionsDir)); err != nil && !all {
		return report, nil
	}
	sessions, err := state.Sessions()
	if err != nil {
		return report, err
	}
	var dead, expired []Info
	for _, s := range sessions {
		switch {
		case s.Live:
		case s.Ended.IsZero():
			dead = append(dead, s)
		case time.Since(s.Ended) > configs.Retention:
			expired = append(expired, s)
		}
	}
	if len(dead) == 0 && len(expired) == 0 && !all {
		return report, nil
	}
	if err := os.MkdirAll(dirs.State, 0o700); err != nil {
		return report, err
	}
	l, err := lock(filepath.Join(dirs.State, "sweep.lock"), false)
	if errors.Is(err, errLocked) {
		return report, nil
	}
	if err != nil {
		return report, err
	}
	defer l.unlock()

	var errs []error
	for _, s := range expired {
		if err := os.RemoveAll(s.Dir); err != nil {
			errs = append(errs, err)
			continue
		}
		report.Expired = append(report.Expired, s.ID)
	}
	errs = append(errs, removeStrays(dirs.State))
	if len(dead) > 0 || all {
		eng, err := connect(ctx)
		if err != nil {
			return report, errors.Join(append(errs, err)...)
		}
		// Containers first: nothing may use a workspace that is removed.
		report.Containers, err = sweepContainers(ctx, eng, state)
		if err != nil {
			return report, errors.Join(append(errs, err)...)
		}
	}
	for _, s := range dead {
		if err := sweepSession(ctx, s); err != nil {
			errs = append(errs, err)
			continue
		}
		report.Sessions = append(report.Sessions, s.ID)
	}
	return report, errors.Join(errs...)
}

// sweepContainers removes the containers of this owner whose session no
// process holds.
func sweepContainers(ctx context.Context, eng Engine, state StateDir) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	list, err := eng.ContainerList(ctx, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", LabelOwner+"="+state.Owner())),
	})
	if err != nil {
		return nil, engineError("list containers", err)
	}
	var removed []string
	var errs []error
	for _, c := range list {
		// Looked at now, not before: a session may have begun meanwhile.
		if isLocked(filepath.Join(state.sessionDir(c.Labels[LabelSession]), lockFile)) {
			continue
		}
		if err := removeContainer(ctx, eng, c.ID); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, c.ID)
	}
	return removed, errors.Join(errs...)
}

// sweepSession does what the end of a session would have done.
func sweepSession(ctx context.Context, s Info) error {
	records, err := s.Jobs()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range records {
		errs = append(errs, logstore.Seal(r.LogDir()))
		if r.State != Ended || !r.Gone {
			r.Gone, r.Listening = true, nil
			if r.State != Ended {
				r.State, r.Ended = Ended, time.Now()
				r.Exit = &Exit{Reason: ReasonKilled, Code: 137, Signal: 9, By: "the death of the session's process"}
			}
			errs = append(errs, saveRecord(r))
		}
		errs = append(errs, cleanJob(ctx, r))
	}
	if s.Socket != "" {
		os.Remove(s.Socket)
		os.Remove(filepath.Dir(s.Socket)) // empty if it was made for the socket alone
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(records) == 0 {
		return os.RemoveAll(s.Dir)
	}
	return markEnded(s.Dir)
}

// cleanJob removes a job's files from its directory, but for record and log.
func cleanJob(ctx context.Context, r Record) error {
	var errs []error
	for _, d := range []string{workDir, homeDir, tmpDir, etcDir} {
		errs = append(errs, worktree.RemoveWorkspace(ctx, filepath.Join(r.Dirname, d)))
	}
	return errors.Join(errs...)
}

// removeStrays removes directories whose maker died before it had written
// what they are.
func removeStrays(stateDir string) error {
	entries, err := os.ReadDir(filepath.Join(stateDir, sessionsDir))
	if err != nil {
		return nil
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(stateDir, sessionsDir, e.Name())
		info, err := e.Info()
		if err != nil || !e.IsDir() || time.Since(info.ModTime()) < strayAge {
			continue
		}
		_, err = os.Stat(filepath.Join(dir, sessionFile))
		if os.IsNotExist(err) && !isLocked(filepath.Join(dir, lockFile)) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

func markEnded(dir string) error {
	return os.WriteFile(filepath.Join(dir, endedFile), nil, 0o600)
}
