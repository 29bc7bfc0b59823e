package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"berth/worktree"
)

func newCpCmd(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "cp [flags] JOB:PATH DEST",
		Short: "Copy files out of a job, ignored ones and /tmp too",
		Long: `Copy a file or directory out of a job, whether it runs or not: into DEST where
that is a directory, else under that name. With - for DEST a file goes to
stdout. A relative PATH is one below the directory that the job began in;
absolute ones may be below its repository, its home directory or its /tmp.
PATH/. means what is in a directory.

Links are copied as links, times and permissions stay, owners do not. When the
session has ended there is only what berth diff knows of, without ignored files
and /tmp.`,
		Example: `  berth cp build-1:dist .
  berth cp build-1:/tmp/build.log -
  berth cp build-1:coverage/. ./coverage`,
		Args: arguments(2, 2, "JOB:PATH and a place to copy it to"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, path, ok := strings.Cut(args[0], ":")
			if !ok || name == "" || path == "" {
				return usageError("use: "+cmd.UseLine(), "%q is no JOB:PATH", args[0])
			}
			return app.cp(cmd.Context(), name, path, args[1], asJSON)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 || strings.Contains(word, ":") {
				return nil, cobra.ShellCompDirectiveDefault
			}
			names, how := app.completeJob(anyJob)(cmd, args, word)
			for i, n := range names {
				names[i] = strings.Replace(n, "\t", ":\t", 1)
			}
			return names, how | cobra.ShellCompDirectiveNoSpace
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what could not be copied")
	return cmd
}

func (a *App) cp(ctx context.Context, name, path, dest string, asJSON bool) error {
	if asJSON && dest == "-" {
		return usageError("leave out one of them", "--json and - both mean stdout")
	}
	job, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	results, err := a.results()
	if err != nil {
		return err
	}
	if dest != "-" {
		dest = a.place(dest)
	}
	skipped, err := results.Copy(ctx, job.record, path, dest, a.Stdout)
	if err != nil {
		return err
	}
	if asJSON {
		if skipped == nil {
			skipped = []worktree.Skipped{}
		}
		return a.printJSON(map[string]any{"skipped": skipped})
	}
	a.noteSkipped(skipped)
	return nil
}
