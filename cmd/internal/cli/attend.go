package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	ossignal "os/signal"
	"strings"
	"sync"
	"syscall"

	"berth/runner"
	"berth/runner/logstore"
)

// attended is what became of one job that run waits for.
type attended struct {
	record  runner.Record
	matched string
	err     error // of waiting; the context's when the time is over
	output  error // of writing the output
}

// attend streams the output of jobs until each has ended, the condition holds,
// or the time is over. An interrupt ends the jobs, not the attending: their
// last output and their exits still come. A second one leaves them no grace.
func (a *App) attend(ctx context.Context, session runner.Service, jobs []runner.Record, o runOptions) error {
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if o.Limit > 0 {
		watch, stop = context.WithTimeout(watch, o.Limit)
		defer stop()
	}
	join := killOnInterrupt(ctx, session, jobs)
	// Whoever notifies of SIGPIPE gets an error from a write instead of dying
	// of it, so that the job can be ended first.
	pipe := make(chan os.Signal, 1)
	ossignal.Notify(pipe, syscall.SIGPIPE)
	defer ossignal.Stop(pipe)

	results := make([]attended, len(jobs))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, r := range jobs {
		emit, flush := a.raw, func() error { return nil }
		switch {
		case o.JSON:
			emit = func(logstore.Chunk) error { return nil }
		case len(jobs) > 1:
			p := &prefixed{app: a, prefix: r.Handle + " | ", mu: &mu}
			emit, flush = p.emit, p.flush
		}
		wg.Go(func() {
			results[i] = attendOne(watch, session, r, o.Until, emit)
			results[i].output = errors.Join(results[i].output, flush())
		})
	}
	wg.Wait()
	if err := join(); err != nil {
		return err
	}
	return a.conclude(ctx, results, o)
}

// killOnInterrupt ends the jobs when ctx does. join stops that, and gives the
// error of the kill if it came to that.
func killOnInterrupt(ctx context.Context, session runner.Service, jobs []runner.Record) (join func() error) {
	signals := make(chan os.Signal, 4)
	ossignal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	over, killed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(killed)
		select {
		case <-ctx.Done():
		case <-over:
			return
		}
		first := make(chan error, 1)
		go func() { first <- kill(ctx, session, jobs, "an interrupt", interruptGrace) }()
		for seen := 0; ; {
			select {
			case err := <-first:
				killed <- err
				return
			case <-signals: // the one that ended ctx is among them
				if seen++; seen == 2 {
					err := kill(ctx, session, jobs, "an interrupt", 0)
					killed <- errors.Join(err, <-first)
					return
				}
			}
		}
	}()
	return func() error {
		close(over)
		err := <-killed
		ossignal.Stop(signals)
		return err
	}
}

// attendOne streams one job's output for as long as the wait takes.
func attendOne(ctx context.Context, session runner.Service, r runner.Record, until runner.Condition, emit func(logstore.Chunk) error) attended {
	result := attended{record: r}
	reader, err := session.Log(ctx, r.ID)
	if err != nil {
		result.err = err
		return result
	}
	streaming, end := context.WithCancel(ctx)
	defer end()
	streamed := make(chan error, 1)
	go func() {
		err := follow(streaming, reader, 0, 0, emit)
		if err != nil {
			// Nobody gets the output: end it as a shell would end a pipeline.
			err = errors.Join(err, kill(ctx, session, []runner.Record{r}, "a closed output", interruptGrace))
		}
		streamed <- err
	}()
	waited, err := session.Wait(ctx, runner.WaitRequest{Jobs: []string{r.ID}, Until: until})
	if err != nil {
		result.err = err
		end()
	} else {
		result.record, result.matched = waited.Jobs[0].Record, waited.Jobs[0].Matched
		if result.record.State != runner.Ended {
			end() // else the log ends by itself, when all of it has come
		}
	}
	result.output = <-streamed
	return result
}

// conclude says what is to be said of the jobs, and gives the exit code.
func (a *App) conclude(ctx context.Context, results []attended, o runOptions) error {
	var running []string
	codes := make([]int, len(results))
	for i, r := range results {
		switch {
		case r.output != nil:
			return r.output
		case errors.Is(r.err, context.DeadlineExceeded):
			running = append(running, r.record.Handle)
			codes[i] = runner.StatusTimeout
			continue
		case r.err != nil:
			return r.err
		}
		codes[i] = waitedCode(runner.Waited{Record: r.record, Matched: r.matched}, o.Until)
		switch {
		case ctx.Err() != nil: // whoever interrupted it knows why it ended
		case r.record.State == runner.Ended:
			a.explainExit(r.record)
		default:
			a.note("%s holds; still running as %s", o.Until, r.record.Handle)
		}
	}
	if len(running) > 0 {
		a.note("still running as %s", strings.Join(running, ", "))
	}
	if o.JSON {
		for _, r := range results {
			if err := a.printBegun(r.record, true); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(running) > 0 {
		return exitCode(runner.StatusTimeout)
	}
	return codeOf(joinCodes(codes))
}

// explainExit says why a job ended, unless it did so by itself.
func (a *App) explainExit(r runner.Record) {
	if r.Exit != nil && r.Exit.Reason != runner.ReasonExited {
		a.complain(fmt.Sprintf("%s: %s", r.Handle, r.Exit), exitHint(r))
	}
	a.explainDelivery(r)
}

// explainDelivery says what became of the changes of a job, where that was asked for.
func (a *App) explainDelivery(r runner.Record) {
	d := r.Delivery
	if d == nil {
		return
	}
	for _, c := range d.Conflicts {
		a.note("conflict in %q: it %s", c.Path, c.Why)
	}
	if d.Branch != nil {
		a.note("%s is at %.12s", d.Branch.Name, d.Branch.Commit)
	}
	if d.Failed() {
		a.complain(fmt.Sprintf("%s: its changes were not delivered: %s", r.Handle, d.Error), d.Hint)
	} else if d.Branch == nil || d.Written+d.Removed > 0 {
		a.note("%s wrote %d files and removed %d", r.Handle, d.Written, d.Removed)
	}
}

// waitedCode is the exit code for one job: its own when it has ended, 1 if that
// would be 0 although something else was waited for or its changes could not be
// delivered, 0 if what was waited for has come.
func waitedCode(w runner.Waited, until runner.Condition) int {
	if w.Matched == until.String() && until.Kind != "" && until.Kind != "exit" {
		return 0
	}
	code := w.Record.Exit.Status()
	if code == 0 && (until.Kind != "" && until.Kind != "exit" || w.Record.Delivery.Failed()) {
		return runner.StatusPartly
	}
	return code
}

// joinCodes is the exit code for several jobs: 0 if all succeeded, else 1.
func joinCodes(codes []int) int {
	if len(codes) == 1 {
		return codes[0]
	}
	for _, c := range codes {
		if c != 0 {
			return 1
		}
	}
	return 0
}
