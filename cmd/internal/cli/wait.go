package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/runner"
)

// waitOptions are the flags of wait.
type waitOptions struct {
	Any     bool
	Until   runner.Condition
	Timeout duration
	JSON    bool
}

func newWaitCmd(app *App) *cobra.Command {
	var (
		o     waitOptions
		until condition
	)
	cmd := &cobra.Command{
		Use:   "wait [flags] JOB...",
		Short: "Wait for jobs to end, or for one to listen, answer or print something",
		Long: `Wait for jobs to end, or for one to listen, answer or print something.

A line for each job says what the wait ended with. The exit code is that of the
job; of several, 0 if all succeeded and else 1. When a condition holds that is a
success. A job that ends before its condition holds gives its own code, or 1 if
that is 0. When the time is over the exit code is 124 and the jobs go on.`,
		Example: `  berth wait test-1
  berth wait --any build-1 test-1
  berth wait --until port:8080 web        it listens on the port
  berth wait --until http:8080/health web it answers with success
  berth wait --until 'text:ready in .*ms' web
  berth wait --until quiet:5s web         it has printed nothing for five seconds
  berth wait --timeout 2m test-1`,
		Args: arguments(1, -1, "the name of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Until = until.value
			return app.wait(cmd.Context(), args, o)
		},
		ValidArgsFunction: app.completeJob(anyJob),
	}
	f := cmd.Flags()
	f.BoolVar(&o.Any, "any", false, "until the first of the jobs is there")
	f.Var(&until, "until", "the `condition`: exit, port:8080, text:REGEX, http:8080/path, quiet:5s")
	f.Var(&o.Timeout, "timeout", "give up after this `duration`")
	f.BoolVar(&o.JSON, "json", false, "print records and what matched")
	completeCondition(cmd)
	return cmd
}

// waitOutcome is how the wait for one job ended.
type waitOutcome struct {
	waited runner.Waited
	err    error
}

func (a *App) wait(ctx context.Context, names []string, o waitOptions) error {
	l, err := a.locator(ctx)
	if err != nil {
		return err
	}
	jobs, err := l.findAll(ctx, names)
	if err != nil {
		return err
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.Timeout.set {
		limited, cancel = context.WithTimeout(limited, o.Timeout.value)
		defer cancel()
	}
	outcomes := waitAll(limited, cancel, jobs, o)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return a.concludeWait(jobs, outcomes, o)
}

// waitAll waits for each job in its own session. With Any the first that is
// there, and otherwise the first error, ends the wait for the others.
func waitAll(ctx context.Context, cancel func(), jobs []found, o waitOptions) []waitOutcome {
	outcomes := make([]waitOutcome, len(jobs))
	var wg sync.WaitGroup
	for i, job := range jobs {
		wg.Go(func() {
			w, err := waitOne(ctx, job, o.Until)
			outcomes[i] = waitOutcome{w, err}
			if (err == nil) == o.Any {
				cancel()
			}
		})
	}
	wg.Wait()
	return outcomes
}

func waitOne(ctx context.Context, job found, until runner.Condition) (runner.Waited, error) {
	if !job.session.Live && job.record.State == runner.Ended {
		return runner.Waited{Record: job.record, Matched: "exit"}, nil
	}
	session, err := job.service()
	if err != nil {
		return runner.Waited{}, err
	}
	defer session.Close()
	result, err := session.Wait(ctx, runner.WaitRequest{Jobs: []string{job.record.ID}, Until: until})
	if err != nil {
		return runner.Waited{}, err
	}
	return result.Jobs[0], nil
}

// concludeWait prints what the wait ended with, and gives the exit code.
func (a *App) concludeWait(jobs []found, outcomes []waitOutcome, o waitOptions) error {
	result := runner.WaitResult{Jobs: []runner.Waited{}}
	var codes []int
	var running []string
	there := o.Any && slices.ContainsFunc(outcomes, func(out waitOutcome) bool { return out.err == nil })
	for i, out := range outcomes {
		switch {
		case out.err == nil:
			result.Jobs = append(result.Jobs, out.waited)
			codes = append(codes, waitedCode(out.waited, o.Until))
		case errors.Is(out.err, context.DeadlineExceeded), errors.Is(out.err, context.Canceled):
			running = append(running, jobs[i].record.Handle)
		case there: // what was waited for has come: that another was lost does not matter
		default:
			return out.err
		}
	}
	if err := a.printWaited(result, o.JSON); err != nil {
		return err
	}
	if len(running) > 0 && !(o.Any && len(codes) > 0) {
		a.note("still running after %s: %s", o.Timeout.value, strings.Join(running, ", "))
		return exitCode(runner.StatusTimeout)
	}
	return codeOf(joinCodes(codes))
}

func (a *App) printWaited(result runner.WaitResult, asJSON bool) error {
	if asJSON {
		return a.printJSON(result)
	}
	for _, w := range result.Jobs {
		what := w.Matched
		if w.Record.Exit != nil && (what == "exit" || what == "") {
			what = w.Record.Exit.String()
		}
		line := w.Record.Handle + "  " + what
		if d := ui.Duration(w.Record.Runtime(a.Now())); d != "" {
			line += "  " + d
		}
		if _, err := fmt.Fprintln(a.Stdout, line); err != nil {
			return err
		}
	}
	return nil
}
