package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"berth/runner"
	"berth/runner/keeper"
	"berth/runner/logstore"
)

// listDeadline bounds a question to a keeper that records on disk answer as
// well: one that is stopped must not stop others.
const listDeadline = 3 * time.Second

// found is a job and where it is.
type found struct {
	session runner.Info
	record  runner.Record
}

// service gives the session of the job. One that has ended is a
// *runner.EndedError.
func (f found) service() (*keeper.Client, error) {
	if !f.session.Live {
		return nil, &runner.EndedError{Session: f.session.ID}
	}
	return keeper.Dial(f.session), nil
}

// log opens the job's output, which outlives its session.
func (f found) log() (*logstore.Reader, error) { return logstore.Open(f.record.LogDir()) }

// locator looks for jobs in the sessions of one caller.
type locator struct {
	sessions []runner.Info // all, oldest first
	current  string        // ID of the one that the command means, "" if it has not begun
	repo     string        // of the caller
	only     string        // --session: no other one counts
}

func (a *App) locator(ctx context.Context) (*locator, error) {
	caller, err := a.caller()
	if err != nil {
		return nil, err
	}
	l := &locator{repo: caller.Repo(), only: a.session}
	if l.sessions, err = runner.StateDir(caller.Dirs.State).Sessions(); err != nil {
		return nil, err
	}
	var ended *runner.EndedError
	current, ok, err := caller.Current(ctx)
	switch {
	case ok:
		l.current = current.ID
	case errors.As(err, &ended): // its records may be there
		l.current = ended.Session
	case err != nil:
		return nil, err
	}
	return l, nil
}

// ranks are the sessions in which a name is looked up, those that come first
// first: the current one, other live ones of the repository, ended ones of it.
func (l *locator) ranks() [3][]runner.Info {
	var ranks [3][]runner.Info
	for _, s := range l.sessions {
		switch {
		case s.ID == l.current, l.only != "" && s.Name == l.only && l.current == "":
			ranks[0] = append(ranks[0], s)
		case l.only != "" || s.Repo != l.repo:
		case s.Live:
			ranks[1] = append(ranks[1], s)
		default:
			ranks[2] = append(ranks[2], s)
		}
	}
	return ranks
}

// find looks a job up by handle, ID, or the end of an ID; an ID is found in any
// session. Errors: *runner.UnknownJobError, *runner.AmbiguousJobError.
func (l *locator) find(ctx context.Context, name string) (found, error) {
	if id, err := ulid.ParseStrict(name); err == nil {
		return l.findID(ctx, id.String())
	}
	var all []runner.Record
	for _, rank := range l.ranks() {
		var hits []found
		for _, s := range rank {
			records := recordsOf(ctx, s)
			all = append(all, records...)
			r, err := runner.Find(name, records)
			var several *runner.AmbiguousJobError
			if errors.As(err, &several) {
				return found{}, err
			}
			if err == nil {
				hits = append(hits, found{s, r})
			}
		}
		switch len(hits) {
		case 0:
			continue
		case 1:
			return hits[0], nil
		}
		tie := &runner.AmbiguousJobError{Job: name}
		for _, h := range hits {
			tie.Jobs = append(tie.Jobs, h.record)
		}
		return found{}, tie
	}
	_, err := runner.Find(name, all) // for the names that are near
	return found{}, err
}

func (l *locator) findID(ctx context.Context, id string) (found, error) {
	for _, s := range slices.Backward(l.sessions) {
		for _, r := range recordsOf(ctx, s) {
			if r.ID == id {
				return found{s, r}, nil
			}
		}
	}
	return found{}, &runner.UnknownJobError{Job: id}
}

// findAll looks several jobs up, each once.
func (l *locator) findAll(ctx context.Context, names []string) ([]found, error) {
	var jobs []found
	for _, name := range names {
		f, err := l.find(ctx, name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(jobs, func(other found) bool { return other.record.ID == f.record.ID }) {
			jobs = append(jobs, f)
		}
	}
	return jobs, nil
}

// find looks one job up.
func (a *App) find(ctx context.Context, name string) (found, error) {
	l, err := a.locator(ctx)
	if err != nil {
		return found{}, err
	}
	return l.find(ctx, name)
}

// recordsOf lists a session's jobs, oldest first: as its keeper knows them, or
// else as they are on disk. One whose directory vanishes has none.
func recordsOf(ctx context.Context, s runner.Info) []runner.Record {
	if s.Live {
		ctx, cancel := context.WithTimeout(ctx, listDeadline)
		defer cancel()
		c := keeper.Dial(s)
		defer c.Close()
		if records, err := c.List(ctx); err == nil {
			return records
		}
	}
	records, _ := s.Jobs()
	return records
}
