package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"berth/configs"
	"berth/runner/logstore"
)

// setupOf marks a job that does a setup.
type setupOf struct{ dir string } // of its workspace, which becomes a layer

// setupRun is a setup that jobs wait for.
type setupRun struct {
	done  chan struct{}
	layer string
	job   *job // nil when the layer was there
	err   error

	waiting int // jobs, under the session's lock
	ctx     context.Context
	giveUp  context.CancelFunc
}

// SetupError says that a job did not start because its setup failed.
type SetupError struct {
	Job  string // handle of the setup
	Exit Exit
}

func (e *SetupError) Error() string { return fmt.Sprintf("the setup %s failed: %s", e.Job, e.Exit) }

// setup returns the layer with what the job's setup makes. It is made once for each key, whoever asks at the same time: by a job of its
// own, which ends when the last of those who wait for it is killed. When it fails its output is added to that of this job.
func (j *job) setup(ctx context.Context) (string, error) {
	key, err := j.setupKey(ctx)
	if err != nil {
		return "", err
	}
	s := j.session
	s.mu.Lock()
	run := s.setups[key]
	if run == nil {
		run = &setupRun{done: make(chan struct{})}
		run.ctx, run.giveUp = context.WithCancel(s.life)
		s.setups[key] = run
		s.begun.Go(func() {
			defer close(run.done)
			defer run.giveUp()
			run.layer, run.err = s.runSetup(run.ctx, j, key, run)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.setups[key] == run {
				delete(s.setups, key)
			}
		})
	}
	run.waiting++
	s.mu.Unlock()
	select {
	case <-run.done:
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if run.waiting--; run.waiting == 0 {
			delete(s.setups, key) // who asks from now on has it done anew
			run.giveUp()
		}
		return "", ctx.Err()
	}
	if run.err != nil && run.job != nil {
		j.showOutput(run.job)
	}
	return run.layer, run.err
}

// setupKey stands for all that a setup's result depends on.
func (j *job) setupKey(ctx context.Context) (string, error) {
	files, err := j.files.repo.Key(ctx, j.files.snap, j.spec.Setup.Key)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %q %q %q %q %d %q", j.spec.Setup.Run, j.image.ID, files, j.spec.Env, j.files.extras, j.files.form, j.uid(), j.spec.Network)
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// runSetup finds the layer or has a job make it.
func (s *Session) runSetup(ctx context.Context, asks *job, key string, run *setupRun) (string, error) {
	return asks.files.repo.Setup(ctx, key, func(dir string) error {
		spec := Spec{
			Argv: Shell(asks.spec.Setup.Run), Dir: asks.files.repo.Root(), Image: asks.spec.Image, Env: asks.spec.Env, Caller: asks.spec.Caller,
			NoCaches: asks.spec.NoCaches, Root: asks.spec.Root, Limits: asks.spec.Limits, Network: asks.spec.Network,
		}
		made := newJob(s, spec)
		made.files, made.image, made.init = asks.files, asks.image, asks.init
		made.files.setup = &setupOf{dir}
		r := asks.Record()
		made.record = Record{
			ID: ulid.Make().String(), Command: spec.Argv, Dir: spec.Dir, State: Preparing, Created: time.Now(), Repo: r.Repo, Form: r.Form,
			Snapshot: r.Snapshot, Image: r.Image, ImageID: r.ImageID, Digest: r.Digest,
		}
		if err := s.register(made); err != nil {
			return err
		}
		run.job = made
		select {
		case <-made.gone:
		case <-ctx.Done():
			made.kill("the end of those who waited for it", configs.Grace)
			<-made.gone
		}
		end := made.Record()
		if !end.Exit.OK() {
			return &SetupError{end.Handle, *end.Exit}
		}
		if !end.Gone {
			return &SetupError{end.Handle, Exit{Reason: ReasonLost, Error: "its container could not be removed"}}
		}
		return nil
	})
}

// setupShown is how much of the output of a setup that failed a job shows.
const setupShown = 64 << 10

// showOutput adds the end of another job's output to this job's.
func (j *job) showOutput(from *job) {
	info, err := from.log.Reader().Stat()
	if err != nil {
		return
	}
	for c, err := range from.log.Reader().Chunks(max(0, info.Size-setupShown), info.Size, 0) {
		if err != nil {
			return
		}
		if c.Stream == logstore.Stdout || c.Stream == logstore.Stderr {
			j.log.Append(c.Stream, c.Time, slices.Clone(c.Data))
		}
	}
}
