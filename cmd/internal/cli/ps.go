package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/runner"
)

func newPsCmd(app *App) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List the jobs that are running",
		Long: `List the jobs that are running in your session and in the other sessions of
this repository. With -a also those that have ended, in the last seven days.`,
		Example: `  berth ps
  berth ps -a
  berth ps --json | jq -r '.[].handle'`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.ps(cmd.Context(), all, asJSON)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "jobs that have ended too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of records")
	return cmd
}

func (a *App) ps(ctx context.Context, all, asJSON bool) error {
	l, err := a.locator(ctx)
	if err != nil {
		return err
	}
	records := []runner.Record{}
	for i, rank := range l.ranks() {
		if i == 2 && !all {
			break
		}
		for _, s := range rank {
			for _, r := range recordsOf(ctx, s) {
				if all || holdsContainer(r) {
					records = append(records, r)
				}
			}
		}
	}
	slices.SortStableFunc(records, func(x, y runner.Record) int { return strings.Compare(x.ID, y.ID) })
	if asJSON {
		return a.printJSON(records)
	}
	return a.printJobs(records)
}

// holdsContainer tells whether a job runs, or could be looked around in.
func holdsContainer(r runner.Record) bool {
	return r.State != runner.Ended || r.Keep && !r.Gone
}

func (a *App) printJobs(records []runner.Record) error {
	var rows [][]string
	sessions := map[string]bool{}
	for _, r := range records {
		sessions[r.Session] = true
	}
	for _, r := range records {
		session := r.Session
		if len(sessions) < 2 {
			session = "" // a column that is empty everywhere is left out
		}
		rows = append(rows, []string{
			r.Handle, stateOf(r), ui.Duration(r.Runtime(a.Now())), portsOf(r), refOf(r), session, ui.OneLine(r.Line()),
		})
	}
	return ui.Table(a.Stdout, width(a.Stdout), []string{"NAME", "STATE", "TIME", "PORTS", "REF", "SESSION", "COMMAND"}, rows)
}

// stateOf is a job's state in two words.
func stateOf(r runner.Record) string {
	switch {
	case r.State == runner.Preparing:
		return "starting"
	case r.State != runner.Ended || r.Exit == nil:
		return string(r.State)
	}
	text := strings.ReplaceAll(string(r.Exit.Reason), "_", " ")
	if r.Exit.Reason == runner.ReasonExited {
		text = fmt.Sprintf("exit %d", r.Exit.Code)
	}
	if r.Keep && !r.Gone {
		text += " (kept)"
	}
	if r.Delivery.Failed() {
		text += " (not delivered)"
	}
	return text
}

// portsOf lists where ports are: 4040->49160 stands for 127.0.0.1:49160.
func portsOf(r runner.Record) string {
	if !holdsContainer(r) {
		return ""
	}
	var list []string
	for _, p := range r.Ports {
		text := fmt.Sprintf("%d->%s", p.Port, p.Host[strings.LastIndexByte(p.Host, ':')+1:])
		if p.Proto != "tcp" {
			text += "/" + p.Proto
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

// refOf says what files a job has: the ref it was asked to run on, or the
// branch with a mark for changes that are not committed.
func refOf(r runner.Record) string {
	s := r.Snapshot
	ref := s.Ref
	if ref == "" {
		ref = s.Branch
	}
	if ref == "" {
		ref = s.Commit[:min(len(s.Commit), 8)]
	}
	if s.Dirty {
		ref += "*"
	}
	if r.Form == "live" {
		ref = "live"
	}
	return ref
}
