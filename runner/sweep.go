package runner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/oklog/ulid/v2"

	"berth/configs"
	"berth/runner/logstore"
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
	Elsewhere  []string `json:"elsewhere"`  // sessions of dead processes on an engine that is not in use now: left alone
}

// Sweep cleans up what sessions have left whose process died: containers,
// volumes, workspaces. It removes records that are older than
// configs.Retention. It touches nothing that carries no label of ours, that is
// another owner's, or that belongs to a session whose process lives. Where
// another process sweeps already, it does nothing.
//
// engine is the user's setting of the engine that connect finds, as of
// [EngineSetting]: only sessions on that one are cleaned up. connect is called
// only if there is something to clean up, or with all, which has containers
// looked for whose session nobody remembers. The caller closes what it
// returned.
func Sweep(ctx context.Context, dirs configs.Dirs, engine string, connect func(context.Context) (Engine, error), all bool) (SweepReport, error) {
	var report SweepReport
	state := StateDir(dirs.State)
	if _, err := os.Stat(filepath.Join(dirs.State, sessionsDir)); err != nil && !all {
		return report, nil
	}
	dead, expired, err := state.finished()
	if err != nil {
		return report, err
	}
	dead = slices.DeleteFunc(dead, func(s Info) bool {
		elsewhere := !s.damaged && s.Engine != engine
		if elsewhere {
			report.Elsewhere = append(report.Elsewhere, s.ID)
		}
		return elsewhere
	})
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
	var eng Engine
	if len(dead) > 0 || all {
		eng, err = connect(ctx)
		if err != nil {
			return report, errors.Join(append(errs, err)...)
		}
		// Containers first: nothing may use a workspace that is removed.
		report.Containers, err = sweepContainers(ctx, eng, state)
		if err == nil {
			err = removeVolumes(ctx, eng, LabelOwner+"="+state.Owner(), func(session string) bool {
				return !isLocked(filepath.Join(state.sessionDir(session), lockFile))
			})
		}
		if err != nil {
			return report, errors.Join(append(errs, err)...)
		}
	}
	hands := NewHands(dirs, "", func(context.Context) (Engine, func(), error) { return eng, func() {}, nil })
	results := NewResults(dirs, os.Getenv("HOME"), hands)
	errs = append(errs, hands.Remove(ctx, oldProbes(dirs)...))
	for _, s := range dead {
		if err := sweepSession(ctx, s, results); err != nil {
			errs = append(errs, err)
			continue
		}
		report.Sessions = append(report.Sessions, s.ID)
	}
	return report, errors.Join(errs...)
}

// oldProbes are directories of probes whose process died.
func oldProbes(dirs configs.Dirs) (old []string) {
	for _, d := range []string{dirs.State, dirs.Cache} {
		found, _ := filepath.Glob(filepath.Join(d, probeDir+"*"))
		for _, p := range found {
			if info, err := os.Lstat(p); err == nil && time.Since(info.ModTime()) > 2*makeDeadline {
				old = append(old, p)
			}
		}
	}
	return old
}

// sweepContainers removes the containers of this owner whose session no
// process holds.
func sweepContainers(ctx context.Context, eng Engine, state StateDir) ([]string, error) {
	return removeLabelled(ctx, eng, LabelOwner+"="+state.Owner(), func(c container.Summary) bool {
		if c.Labels[LabelSession] == "" {
			// A helper of no session's. One that runs has its owner, or ends by itself.
			return c.State != container.StateRunning && time.Since(time.Unix(c.Created, 0)) > strayAge
		}
		// Looked at now, not before: a session may have begun meanwhile.
		return !isLocked(filepath.Join(state.sessionDir(c.Labels[LabelSession]), lockFile))
	})
}

// removeLabelled removes containers with a label, those that are meant, and
// returns their IDs. It goes on after an error.
func removeLabelled(ctx context.Context, eng Engine, label string, meant func(container.Summary) bool) (removed []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	list, err := eng.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
	if err != nil {
		return nil, engineError("list containers", err)
	}
	var errs []error
	for _, c := range list {
		if !meant(c) {
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

// finished lists the sessions that no process holds: those to clean up, and
// those whose records are too old. A directory whose description is missing or
// damaged is one to clean up, unless somebody may be about to write it.
func (d StateDir) finished() (dead, expired []Info, err error) {
	entries, err := os.ReadDir(filepath.Join(string(d), sessionsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil {
			continue // nothing of ours
		}
		s, err := d.Session(e.Name())
		if err != nil {
			dir := d.sessionDir(e.Name())
			s = Info{ID: e.Name(), Dir: dir, Created: ulid.Time(id.Time()), Live: isLocked(filepath.Join(dir, lockFile)), damaged: true}
			s.Live = s.Live || time.Since(s.Created) < strayAge
		}
		switch {
		case s.Live:
		case s.Ended.IsZero():
			dead = append(dead, s)
		case time.Since(s.Ended) > configs.Retention:
			expired = append(expired, s)
		}
	}
	return dead, expired, nil
}

// sweepSession does what the end of a session would have done. What is damaged
// is removed or made whole, so that it is swept once.
func sweepSession(ctx context.Context, s Info, results *Results) error {
	entries, err := os.ReadDir(filepath.Join(s.Dir, jobsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	errs := []error{clean(ctx, s, results)}
	for _, e := range entries {
		dir := filepath.Join(s.Dir, jobsDir, e.Name())
		r, err := loadRecord(dir)
		if err != nil {
			continue // without a record there is nobody to tell of it
		}
		lastOutput := newest(r.LogDir())
		// A log that is missing or no log is no reason to sweep for ever.
		if err := logstore.Seal(r.LogDir()); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, logstore.ErrFormat) {
			errs = append(errs, err)
		}
		if r.State == Ended && r.Gone {
			continue
		}
		if r.State != Ended {
			// Nobody was there to see it: the last output is the best guess.
			r.State, r.Ended = Ended, lastOutput
			r.Exit = &Exit{Reason: ReasonKilled, Code: 137, Signal: 9, By: "the death of the session's process"}
		}
		r.Gone, r.Listening = true, nil
		errs = append(errs, saveRecord(r))
	}
	if s.Socket != "" {
		os.Remove(s.Socket)
		os.Remove(filepath.Dir(s.Socket)) // empty if it was made for the socket alone
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(entries) == 0 {
		return os.RemoveAll(s.Dir)
	}
	if s.damaged {
		if err := writeJSON(filepath.Join(s.Dir, sessionFile), s); err != nil {
			return err
		}
	}
	return markEnded(s.Dir)
}

// newest is the time of the last change to a file in dir, or now if there is
// none.
func newest(dir string) time.Time {
	var last time.Time
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	if last.IsZero() {
		return time.Now()
	}
	return last
}

func markEnded(dir string) error {
	return os.WriteFile(filepath.Join(dir, endedFile), nil, 0o600)
}
