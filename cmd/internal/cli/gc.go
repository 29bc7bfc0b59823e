package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth/configs"
	"berth/runner"
	"berth/worktree"
)

func newGCCmd(app *App) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "gc [flags]",
		Short: "Remove what dead sessions left, and what is too old",
		Long: `Remove what dead sessions left, and what is too old: containers and workspaces
of sessions whose process died, records and logs older than seven days, and
rubbish in the store of file states. Every command of berth does the first of
these by itself. Nothing is touched that belongs to a live session, to another
user, or not to berth.`,
		Example: `  berth gc
  berth gc --all        also berth's network and host images, if nothing uses them`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{unswept: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.gc(cmd.Context(), all, asJSON)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&all, "all", false, "also berth's network and host images, which the next job makes again")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was removed")
	return cmd
}

// gcReport is what gc prints as JSON.
type gcReport struct {
	Sessions   []string `json:"sessions"`   // of dead processes
	Containers []string `json:"containers"` // IDs
	Expired    []string `json:"expired"`    // sessions whose records were too old
	Elsewhere  []string `json:"elsewhere"`  // sessions of dead processes on another engine, left alone
	Paths      []string `json:"paths"`      // in the store
	Images     []string `json:"images"`
	Network    bool     `json:"network"`
}

func (a *App) gc(ctx context.Context, all, asJSON bool) error {
	dirs, err := configs.FindDirs(a.getenv)
	if err != nil {
		return err
	}
	var report gcReport
	swept, sweepErr := a.sweep(ctx, true)
	report.Sessions, report.Containers, report.Expired, report.Elsewhere = swept.Sessions, swept.Containers, swept.Expired, swept.Elsewhere
	layers := worktree.NewStore(dirs.Cache, worktree.RemoveWith(a.hands(dirs).Remove))
	store, storeErr := layers.GC(ctx)
	trimmed, trimErr := layers.Trim(ctx, configs.LayerLimit)
	report.Paths = append(store.Removed, trimmed...)
	var sharedErr error
	if all && sweepErr == nil {
		report.Images, report.Network, sharedErr = a.removeShared(ctx, dirs)
	}
	if err := a.printGC(report, asJSON); err != nil {
		return err
	}
	return firstError([]error{sweepErr, storeErr, trimErr, sharedErr})
}

// removeShared removes what jobs share, unless a session lives that takes it
// for granted.
func (a *App) removeShared(ctx context.Context, dirs configs.Dirs) (images []string, network bool, err error) {
	sessions, err := runner.StateDir(dirs.State).Sessions()
	if err != nil {
		return nil, false, err
	}
	for _, s := range sessions {
		if s.Live {
			return nil, false, usageError("end it first: berth session end "+s.ID, "session %s lives and may need network and images", s.ID)
		}
	}
	engine, err := runner.Connect(ctx, a.getenv)
	if err != nil {
		return nil, false, err
	}
	defer engine.Close()
	return runner.RemoveShared(ctx, engine)
}

func (a *App) printGC(r gcReport, asJSON bool) error {
	if asJSON {
		for _, list := range []*[]string{&r.Sessions, &r.Containers, &r.Expired, &r.Elsewhere, &r.Paths, &r.Images} {
			if *list == nil {
				*list = []string{}
			}
		}
		return a.printJSON(r)
	}
	any := false
	line := func(what string, list []string) {
		for _, item := range list {
			any = true
			fmt.Fprintf(a.Stdout, "removed %s %s\n", what, item)
		}
	}
	line("container", r.Containers)
	line("what is left of session", r.Sessions)
	line("the records of session", r.Expired)
	line("file", r.Paths)
	line("image", r.Images)
	if r.Network {
		line("network", []string{"berth"})
	}
	for _, id := range r.Elsewhere {
		a.note("session %s was on another engine: run berth gc with the DOCKER_HOST or docker context of then", id)
	}
	if !any {
		fmt.Fprintln(a.Stdout, "nothing to remove")
	}
	return nil
}
