package cli

import (
	"bytes"
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"berth/configs"
	"berth/runner"
	"berth/worktree"
)

// diffOptions are the flags of diff.
type diffOptions struct {
	worktree.DiffOptions
	JSON bool
}

func newDiffCmd(app *App) *cobra.Command {
	o := diffOptions{}
	cmd := &cobra.Command{
		Use:   "diff [flags] JOB",
		Short: "Show what a job has changed in its files, as a patch",
		Long: `Show what a job has changed in its files, as a patch that git apply takes,
against the files that it began with. Its commits are in it, files that
.gitignore names are not. It works while the job runs, after its end, and for
seven days after the end of its session.`,
		Example: `  berth diff fmt-1
  berth diff --stat fmt-1
  berth diff fmt-1 | git apply --3way       what berth apply does, by hand`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.Stat && o.NameOnly {
				return usageError("leave out one of them", "--stat and --name-only are both given")
			}
			if o.Null && !o.NameOnly {
				return usageError("add --name-only", "-z is for names")
			}
			return arguments(1, 1, "the name of a job")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.diff(cmd.Context(), args[0], o)
		},
		ValidArgsFunction: app.completeOneJob,
	}
	f := cmd.Flags()
	f.BoolVar(&o.Stat, "stat", false, "a line for each file, and how much of it has changed")
	f.BoolVar(&o.NameOnly, "name-only", false, "the names of the files alone")
	f.BoolVarP(&o.Null, "null", "z", false, "names end in a zero byte and are not quoted")
	f.BoolVar(&o.JSON, "json", false, "print the names, trees and commits, without contents")
	return cmd
}

// differences is what diff prints as JSON.
type differences struct {
	From  string   `json:"from"` // the tree that the job began with
	Files []string `json:"files"`
	worktree.Result
}

func (a *App) diff(ctx context.Context, name string, o diffOptions) error {
	job, err := a.result(ctx, name)
	if err != nil {
		return err
	}
	if o.JSON {
		var names bytes.Buffer
		if err := job.Diff(ctx, &names, worktree.DiffOptions{NameOnly: true, Null: true}); err != nil {
			return err
		}
		d := differences{From: job.Record.Snapshot.Tree, Files: []string{}, Result: job.Result}
		for name := range strings.SplitSeq(strings.TrimSuffix(names.String(), "\x00"), "\x00") {
			if name != "" {
				d.Files = append(d.Files, name)
			}
		}
		return a.printJSON(d)
	}
	o.Width = width(a.Stdout)
	err = job.Diff(ctx, a.Stdout, o.DiffOptions)
	a.noteSkipped(job.Result.Skipped)
	return err
}

// results gives what jobs have changed.
func (a *App) results() (*runner.Results, error) {
	dirs, err := configs.FindDirs(a.getenv)
	if err != nil {
		return nil, err
	}
	return runner.NewResults(dirs, a.getenv("HOME"), a.hands(dirs)), nil
}

// hands read and remove what jobs have written.
func (a *App) hands(dirs configs.Dirs) *runner.Hands {
	return runner.NewHands(dirs, a.Version, func(ctx context.Context) (runner.Engine, func(), error) {
		eng, err := a.engine(ctx)
		if err != nil {
			return nil, nil, err
		}
		return eng, func() { eng.Close() }, nil
	})
}

// result finds a job and what it has changed.
func (a *App) result(ctx context.Context, name string) (*runner.JobResult, error) {
	job, err := a.find(ctx, name)
	if err != nil {
		return nil, err
	}
	results, err := a.results()
	if err != nil {
		return nil, err
	}
	return results.Of(ctx, job.record)
}

// noteSkipped tells what of a job's files was left out.
func (a *App) noteSkipped(list []worktree.Skipped) {
	for i, s := range list {
		if i == 5 && len(list) > 6 {
			a.note("and %d more were left out; --json lists them", len(list)-i)
			return
		}
		a.note("left out %q: it %s", s.Path, s.Why)
	}
}

// completeOneJob offers the names of jobs for a command that takes one.
func (a *App) completeOneJob(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeJob(anyJob)(cmd, args, word)
}

// place is a path that a user has given to write to, absolute. A slash at its end stays: it says that a directory is meant.
func (a *App) place(p string) string {
	abs := a.path(p)
	if strings.HasSuffix(p, string(os.PathSeparator)) {
		abs += string(os.PathSeparator)
	}
	return abs
}
