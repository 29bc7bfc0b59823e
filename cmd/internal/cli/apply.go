package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/runner"
	"berth/worktree"
)

func newApplyCmd(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "apply [flags] JOB",
		Short: "Make the changes of a job in your own files",
		Long: `Make the changes of a job in your own files: all of them, or none. What you have
changed meanwhile stays; where both have changed a file, the changes are merged
line by line. If that is not possible the conflicts are listed, nothing is
changed, and the exit code is 1. Nothing is staged or committed. Doing it twice
is fine.`,
		Example: `  berth run --wait -n fmt -- gofmt -w . && berth apply fmt`,
		Args:    arguments(1, 1, "the name of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.apply(cmd.Context(), args[0], asJSON)
		},
		ValidArgsFunction: app.completeOneJob,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was written and removed, or the conflicts")
	return cmd
}

// application is what apply prints as JSON.
type application struct {
	worktree.Applied
	Conflicts []worktree.Conflict `json:"conflicts"`
	Skipped   []worktree.Skipped  `json:"skipped,omitempty"`
}

func (a *App) apply(ctx context.Context, name string, asJSON bool) error {
	job, err := a.result(ctx, name)
	if err != nil {
		return err
	}
	done, err := job.Apply(ctx)
	var conflict *worktree.ConflictError
	switch {
	case errors.As(err, &conflict) && asJSON:
		none := worktree.Applied{Written: []string{}, Removed: []string{}}
		return errors.Join(a.printJSON(application{Applied: none, Conflicts: conflict.Conflicts}), exitCode(runner.StatusPartly))
	case errors.As(err, &conflict):
		for _, c := range conflict.Conflicts {
			a.note("conflict in %q: it %s", c.Path, c.Why)
		}
		return err
	case err != nil:
		return err
	case asJSON:
		return a.printJSON(application{Applied: done, Conflicts: []worktree.Conflict{}, Skipped: job.Result.Skipped})
	}
	a.noteSkipped(job.Result.Skipped)
	return a.printApplied(done)
}

func (a *App) printApplied(done worktree.Applied) error {
	for _, p := range done.Written {
		if _, err := fmt.Fprintln(a.Stdout, "wrote "+ui.OneLine(p)); err != nil {
			return err
		}
	}
	for _, p := range done.Removed {
		if _, err := fmt.Fprintln(a.Stdout, "removed "+ui.OneLine(p)); err != nil {
			return err
		}
	}
	if len(done.Written)+len(done.Removed) == 0 {
		_, err := fmt.Fprintln(a.Stdout, "nothing to apply")
		return err
	}
	return nil
}
