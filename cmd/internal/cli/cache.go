package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/configs"
	"berth/internal/near"
	"berth/runner"
	"berth/runner/keeper"
	"berth/worktree"
)

func newCacheCmd(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache COMMAND",
		Short: "The caches of tools that jobs of a repository share",
		Long: `The caches of tools that the jobs of a repository share: of go, npm, pip and
cargo. They are kept until they are removed. With berth run --caches off, or
caches: off in berth.yaml, a job has empty ones of its own.`,
		Args:        cobra.ArbitraryArgs,
		RunE:        unknownCommand,
		Annotations: map[string]string{unswept: ""},
	}
	for _, c := range []*cobra.Command{newCacheListCmd(app), newCacheRemoveCmd(app)} {
		c.DisableFlagsInUseLine = true
		cmd.AddCommand(c)
	}
	return cmd
}

func newCacheListCmd(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:         "ls [flags]",
		Short:       "List the caches of all repositories, with their size and last use",
		Long:        "List the caches of all repositories, with their size on disk and last use.",
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.cacheList(cmd.Context(), asJSON)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list; sizes are in bytes")
	return cmd
}

func (a *App) cacheList(ctx context.Context, asJSON bool) error {
	dirs, err := configs.FindDirs(a.getenv)
	if err != nil {
		return err
	}
	caches, err := runner.Caches(ctx, dirs)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(caches)
	}
	var rows [][]string
	for _, c := range caches {
		used := ""
		if !c.Used.IsZero() {
			used = ui.Duration(a.Now().Sub(c.Used)) + " ago"
		}
		rows = append(rows, []string{c.Repo, ui.OneLine(c.Name), ui.Bytes(c.Size), used})
	}
	return ui.Table(a.Stdout, width(a.Stdout), []string{"REPOSITORY", "CACHE", "SIZE", "USED"}, rows)
}

func newCacheRemoveCmd(app *App) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "rm [REPOSITORY... | --all]",
		Short: "Remove the caches of a repository",
		Long: `Remove the caches of a repository: of the one that you are in, of those named as
berth cache ls names them, or of all. Caches that a running job uses are not
removed.`,
		Example: `  berth cache rm
  berth cache rm --all`,
		Args:        arguments(0, -1, ""),
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.cacheRemove(cmd.Context(), args, all, asJSON)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			dirs, err := configs.FindDirs(app.getenv)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			repos := slices.DeleteFunc(runner.CacheRepos(dirs), func(r string) bool { return slices.Contains(args, r) })
			return repos, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the caches of all repositories")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of the repositories whose caches were removed")
	return cmd
}

// cacheRemove goes on after an error: what is in use stops nothing else.
func (a *App) cacheRemove(ctx context.Context, repos []string, all, asJSON bool) error {
	caller, err := a.caller()
	if err != nil {
		return err
	}
	known := runner.CacheRepos(caller.Dirs)
	switch {
	case all && len(repos) > 0:
		return usageError("leave out one of them", "--all and names exclude each other")
	case all:
		repos = known
	case len(repos) == 0:
		repo, err := a.repoOf(ctx, caller)
		if err != nil {
			return err
		}
		if repos = []string{repo.ID()}; !slices.Contains(known, repo.ID()) {
			repos = nil
		}
	}
	for _, r := range repos {
		if !slices.Contains(known, r) {
			hint := "berth cache ls lists them"
			if similar := near.Names(r, known, 8, 1, nil); len(similar) > 0 {
				hint = "did you mean " + similar[0] + "?"
			}
			return usageError(hint, "no repository %q has caches", r)
		}
	}
	removed, errs := []string{}, []error{}
	for _, r := range repos {
		err := runner.RemoveCaches(ctx, caller.Dirs, r)
		if errs = append(errs, err); err == nil {
			removed = append(removed, r)
		}
	}
	if err := a.printRemoved(removed, len(repos) == 0, asJSON); err != nil {
		return err
	}
	return firstError(errs)
}

func (a *App) printRemoved(removed []string, none, asJSON bool) error {
	if asJSON {
		return a.printJSON(removed)
	}
	for _, r := range removed {
		if _, err := fmt.Fprintf(a.Stdout, "removed the caches of %s\n", r); err != nil {
			return err
		}
	}
	if none {
		fmt.Fprintln(a.Stdout, "nothing to remove")
	}
	return nil
}

// repoOf is the repository that the caller is in.
func (a *App) repoOf(ctx context.Context, caller keeper.Caller) (*worktree.Repo, error) {
	return worktree.NewStore(caller.Dirs.Cache, worktree.Reserve(caller.Dirs.State)).Open(ctx, caller.Dir)
}
