package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"berth/runner"
	"berth/runner/logstore"
)

// logsOptions are the flags of logs.
type logsOptions struct {
	Follow     bool
	Lines      int // < 0: all
	Stream     logstore.Stream
	Timestamps bool
}

func newLogsCmd(app *App) *cobra.Command {
	var (
		o              logsOptions
		stdout, stderr bool
	)
	cmd := &cobra.Command{
		Use:   "logs [flags] JOB",
		Short: "Print a job's output, byte for byte",
		Long: `Print a job's output, byte for byte: what the job wrote to stdout goes to stdout,
what it wrote to stderr to stderr. It stays readable for seven days after the
end of the session. For programs and agents there is berth output, which cleans
and shortens.`,
		Example: `  berth logs test-1
  berth logs -f -n 20 web        the last 20 lines, and what comes until it ends
  berth logs --stderr test-1 2>&1 | less`,
		Args: arguments(1, 1, "the name of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case stdout && !stderr:
				o.Stream = logstore.Stdout
			case stderr && !stdout:
				o.Stream = logstore.Stderr
			}
			if cmd.Flags().Changed("lines") && o.Lines < 0 {
				return &runner.InvalidError{What: "number of lines", Value: cmd.Flag("lines").Value.String(), Why: "it is negative"}
			}
			return app.logs(cmd.Context(), args[0], o)
		},
		ValidArgsFunction: app.completeJob(anyJob),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on until the job ends")
	f.IntVarP(&o.Lines, "lines", "n", -1, "only the last `n` lines")
	f.Lookup("lines").DefValue = ""
	f.BoolVar(&stdout, "stdout", false, "only what was written to stdout")
	f.BoolVar(&stderr, "stderr", false, "only what was written to stderr")
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "put the time of its arrival before each line")
	return cmd
}

func (a *App) logs(ctx context.Context, name string, o logsOptions) error {
	job, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	r, err := job.log()
	if err != nil {
		return err
	}
	var cursor int64
	if o.Lines >= 0 {
		if cursor, err = r.TailLines(o.Lines, o.Stream); err != nil {
			return err
		}
	}
	emit := a.raw
	if o.Timestamps {
		emit = (&stamped{app: a}).emit
	}
	until, stop := context.WithCancel(ctx)
	defer stop()
	if !o.Follow || job.record.State == runner.Ended || !job.session.Live {
		stop() // what is there now
	} else {
		go stopAtEnd(until, stop, job)
	}
	if err := follow(until, r, cursor, o.Stream, emit); err != nil {
		return err
	}
	return ctx.Err()
}

// stopAtEnd calls stop when the job's session breaks, for then nobody marks the
// log as complete. It returns with ctx or after stop.
func stopAtEnd(ctx context.Context, stop func(), job found) {
	session, err := job.service()
	if err == nil {
		defer session.Close()
		_, err = session.Wait(ctx, runner.WaitRequest{Jobs: []string{job.record.ID}})
	}
	if err != nil {
		stop()
	}
}

// untilKnown waits until a job that is being prepared has its container, and
// with that its ports.
func untilKnown(ctx context.Context, job found) (found, error) {
	for job.record.State == runner.Preparing && job.session.Live {
		session, err := job.service()
		if err != nil {
			return job, err
		}
		job.record, err = session.Get(ctx, job.record.ID)
		session.Close()
		if err != nil || job.record.State != runner.Preparing {
			return job, err
		}
		select {
		case <-time.After(preparePoll):
		case <-ctx.Done():
			return job, ctx.Err()
		}
	}
	return job, nil
}

// preparePoll is the pause between two looks at a job that is being prepared,
// which takes a fraction of a second.
const preparePoll = 25 * time.Millisecond
