package cli

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/runner"
)

// killOptions are the flags of kill.
type killOptions struct {
	All    bool
	Signal unix.Signal
	Grace  time.Duration
	JSON   bool
}

func newKillCmd(app *App) *cobra.Command {
	o := killOptions{}
	sig := signal{unix.SIGTERM}
	grace := duration{value: configs.Grace}
	cmd := &cobra.Command{
		Use:   "kill [flags] JOB... | --all",
		Short: "End jobs, with every process that they have started",
		Long: `End jobs, with every process that they have started, and return when their
containers are gone. Processes get SIGTERM, and after the grace SIGKILL. One
that has ended already is fine.

Any other signal than TERM and KILL is sent to every process of the job, and
that is all.`,
		Example: `  berth kill web
  berth kill --all                 every job of your session
  berth kill --grace 30s db-1      give it time to shut down
  berth kill -s KILL stuck-1       at once
  berth kill -s HUP web            only send a signal`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.All && len(args) > 0:
				return usageError("leave out one of them", "--all ends every job, and %q is named too", args[0])
			case !o.All && len(args) == 0:
				return usageError("berth kill JOB... or berth kill --all", "berth kill needs the name of a job")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Signal, o.Grace = sig.number, grace.value
			if sig.number == unix.SIGKILL {
				o.Grace = 0
			}
			return app.kill(cmd.Context(), args, o)
		},
		ValidArgsFunction: app.completeJob(holdsContainer),
	}
	f := cmd.Flags()
	f.BoolVar(&o.All, "all", false, "every job of the session")
	f.VarP(&sig, "signal", "s", "the `signal`: TERM, KILL, or another that is only sent")
	f.Var(&grace, "grace", "`duration` between SIGTERM and SIGKILL")
	f.BoolVar(&o.JSON, "json", false, "print the records of the jobs")
	cmd.RegisterFlagCompletionFunc("signal", cobra.FixedCompletions([]string{"TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *App) kill(ctx context.Context, names []string, o killOptions) error {
	l, err := a.locator(ctx)
	if err != nil {
		return err
	}
	var jobs []found
	if o.All {
		jobs = l.currentJobs(ctx)
	} else if jobs, err = l.findAll(ctx, names); err != nil {
		return err
	}
	only := o.Signal != unix.SIGTERM && o.Signal != unix.SIGKILL
	records := make([]runner.Record, len(jobs))
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, job := range jobs {
		wg.Go(func() { records[i], errs[i] = killOne(ctx, job, o, only) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := firstError(errs); err != nil {
		return err
	}
	if o.JSON {
		return a.printJSON(records)
	}
	return nil
}

// firstError picks one error to be explained, as several would not make one
// line; they are mostly the same.
func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func killOne(ctx context.Context, job found, o killOptions, only bool) (runner.Record, error) {
	if !only && !job.session.Live && job.record.State == runner.Ended {
		return job.record, nil
	}
	session, err := job.service()
	if err != nil {
		return runner.Record{}, err
	}
	defer session.Close()
	if only {
		if err := session.Signal(ctx, job.record.ID, int(o.Signal)); err != nil {
			return runner.Record{}, err
		}
		return session.Get(ctx, job.record.ID)
	}
	records, err := session.Kill(ctx, runner.KillRequest{Jobs: []string{job.record.ID}, By: "berth kill", Grace: o.Grace})
	if err != nil {
		return runner.Record{}, err
	}
	return records[0], nil
}

// currentJobs are those of the current session that a kill is for.
func (l *locator) currentJobs(ctx context.Context) []found {
	var jobs []found
	for _, s := range l.sessions {
		if s.ID != l.current || !s.Live {
			continue
		}
		for _, r := range recordsOf(ctx, s) {
			if holdsContainer(r) {
				jobs = append(jobs, found{s, r})
			}
		}
	}
	return jobs
}
