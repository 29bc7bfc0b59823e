package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// branchOptions are the flags of branch.
type branchOptions struct {
	Message string
	JSON    bool
}

func newBranchCmd(app *App) *cobra.Command {
	o := branchOptions{}
	cmd := &cobra.Command{
		Use:   "branch [flags] JOB NAME",
		Short: "Make a git branch of what a job has done",
		Long: `Make a git branch of what a job has done: its commits as they are, and one more
for changes that it has not committed, with you as the author. What was
uncommitted in your files when the job began is in that commit too. Your files
and your other branches stay as they are.`,
		Example: `  berth branch agent-1 try-caching
  berth branch -m "Update dependencies" npm-1 deps`,
		Args: arguments(2, 2, "the name of a job and a name for the branch"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.branch(cmd.Context(), args[0], args[1], o)
		},
		ValidArgsFunction: app.completeOneJob,
	}
	f := cmd.Flags()
	f.StringVarP(&o.Message, "message", "m", "", "`message` of the commit; by default it names the job and its command")
	f.BoolVar(&o.JSON, "json", false, "print branch, commit and what was left out")
	cmd.RegisterFlagCompletionFunc("message", cobra.NoFileCompletions)
	return cmd
}

func (a *App) branch(ctx context.Context, name, branch string, o branchOptions) error {
	job, err := a.result(ctx, name)
	if err != nil {
		return err
	}
	done, err := job.Branch(ctx, branch, o.Message)
	if err != nil {
		return err
	}
	done.Skipped = append(done.Skipped, job.Result.Skipped...)
	if o.JSON {
		return a.printJSON(done)
	}
	a.noteSkipped(done.Skipped)
	commits := fmt.Sprintf("%d new commits", done.Commits)
	if done.Commits == 1 {
		commits = "1 new commit"
	}
	_, err = fmt.Fprintf(a.Stdout, "%s is at %.12s, with %s\n", done.Name, done.Commit, commits)
	return err
}
