package cli

import (
	"context"

	"github.com/spf13/cobra"

	"berth/runner"
)

func newInspectCmd(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect JOB",
		Short: "Print all that is known of a job, as JSON",
		Long: `Print all that is known of a job, as JSON: command, files, image, container,
ports, times, how it ended, and where its log is. Times of duration are in
nanoseconds.`,
		Example: `  berth inspect web
  berth inspect test-1 | jq .exit`,
		Args: arguments(1, 1, "the name of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.inspect(cmd.Context(), args[0])
		},
		ValidArgsFunction: app.completeJob(anyJob),
	}
	cmd.Flags().BoolVar(&asJSON, "json", true, "JSON is all there is")
	cmd.Flags().MarkHidden("json")
	return cmd
}

// inspection is a record and what is beside it.
type inspection struct {
	runner.Record
	Log struct {
		Dir    string `json:"dir"`
		Size   int64  `json:"size"`   // bytes of output
		Closed bool   `json:"closed"` // no more will come
	} `json:"log"`
	SessionLive bool `json:"session_live"`
}

func (a *App) inspect(ctx context.Context, name string) error {
	job, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	i := inspection{Record: job.record, SessionLive: job.session.Live}
	i.Log.Dir = job.record.LogDir()
	if r, err := job.log(); err == nil {
		if info, err := r.Stat(); err == nil {
			i.Log.Size, i.Log.Closed = info.Size, info.Closed
		}
	}
	return a.printJSON(i)
}
