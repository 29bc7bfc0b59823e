package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/runner"
	"berth/runner/keeper"
)

func newSessionCmd(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "session COMMAND",
		Short: "Sessions: sets of jobs that end together",
		Long: `Sessions: sets of jobs that end together.

You need not care: a command uses the session of your terminal, which ends with
it, or where there is no terminal that of the repository, which ends when it was
not used for two hours. --session NAME, or BERTH_SESSION, names another one,
which is begun when there is none.`,
		Args: cobra.ArbitraryArgs,
		RunE: unknownCommand,
	}
	for _, c := range []*cobra.Command{newSessionRunCmd(app), newSessionListCmd(app), newSessionEndCmd(app)} {
		c.DisableFlagsInUseLine = true
		cmd.AddCommand(c)
	}
	return cmd
}

func newSessionRunCmd(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [--] COMMAND [ARG...]",
		Short: "Run a command with a session of its own, which ends with it",
		Long: `Run a command with a session of its own, which ends with it: all jobs that it or
its children start are gone when it ends, even when berth itself is killed. The
command runs here, not in a container. The exit code is that of the command.`,
		Example: `  berth session run -- ./ci.sh
  berth session run -- sh -c 'berth run -n a -- make a; berth run -n b -- make b; berth wait a b'`,
		Args: arguments(1, -1, "a command"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.sessionRun(cmd.Context(), args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// sessionRun keeps a session for as long as a command runs.
func (a *App) sessionRun(ctx context.Context, argv []string) error {
	caller, err := a.caller()
	if err != nil {
		return err
	}
	program, err := a.lookPath(argv[0])
	if err != nil {
		return err
	}
	// From here on signals are for the command: it decides when this is over. A
	// terminal sends its own to both of us, so that one is not passed on.
	signals := make(chan os.Signal, 4)
	ossignal.Notify(signals, os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer ossignal.Stop(signals)
	ctx = context.WithoutCancel(ctx)

	session, err := caller.Own(ctx, runner.Owner{Kind: runner.OwnerProcess})
	if err != nil {
		return err
	}
	info, err := session.Info(ctx)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- keeper.Serve(serving, session) }()
	if err := published(runner.StateDir(caller.Dirs.State), info.ID, served); err != nil {
		return err
	}

	cmd := &exec.Cmd{
		Path: program, Args: argv, Dir: a.Dir, Env: append(a.Environ[:len(a.Environ):len(a.Environ)], "BERTH_SESSION="+info.ID),
		Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr,
	}
	werr := runCommand(cmd, signals)
	eerr := session.End(ctx, "the end of berth session run")
	serr := <-served
	var exit *exec.ExitError
	if werr != nil && !errors.As(werr, &exit) {
		return fmt.Errorf("run %s: %w", argv[0], werr)
	}
	if err := errors.Join(eerr, serr); err != nil {
		return err
	}
	return codeOf(processCode(exit))
}

// published returns when other processes can find the session.
func published(state runner.StateDir, id string, served <-chan error) error {
	tick := time.NewTicker(publishPoll)
	defer tick.Stop()
	for {
		if _, err := state.Session(id); err == nil {
			return nil
		}
		select {
		case err := <-served:
			return errors.Join(errors.New("the session ended before it began"), err)
		case <-tick.C:
		}
	}
}

// publishPoll is the pause between two looks for a session that is about to be
// published, which takes a millisecond.
const publishPoll = 2 * time.Millisecond

// runCommand runs a command and passes signals on to it.
func runCommand(cmd *exec.Cmd, signals <-chan os.Signal) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	for {
		select {
		case err := <-over:
			return err
		case s := <-signals:
			if s != os.Interrupt && s != syscall.SIGQUIT {
				cmd.Process.Signal(s) // one that is ending just now needs none
			}
		}
	}
}

func processCode(exit *exec.ExitError) int {
	if exit == nil {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// lookPath finds a command as a shell would, with its exit codes.
func (a *App) lookPath(name string) (string, error) {
	candidates := []string{a.path(name)}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, dir := range filepath.SplitList(a.getenv("PATH")) {
			candidates = append(candidates, filepath.Join(a.path(dir), name))
		}
	}
	for _, path := range candidates {
		info, err := os.Stat(path)
		switch {
		case err != nil || info.IsDir():
		case info.Mode()&0o111 != 0:
			return path, nil
		case strings.Contains(name, "/"):
			return "", &runner.Explained{Text: name + ": it is not executable", Hint: "chmod +x " + name, Status: 126}
		}
	}
	return "", &runner.Explained{Text: name + ": command not found", Hint: "session run runs a program of this machine; check the name and PATH", Status: 127}
}

func newSessionListCmd(app *App) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Short:   "List the sessions that live, and what they end with",
		Long:    "List the sessions that live, and what they end with.",
		Example: "  berth session ls\n  berth session ls -a      also those that ended in the last seven days",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.sessionList(cmd.Context(), all, asJSON)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "sessions that have ended too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list")
	return cmd
}

// sessionItem is what session ls prints as JSON.
type sessionItem struct {
	runner.Info
	Current bool `json:"current"` // what commands here use
	Jobs    int  `json:"jobs"`
	Running int  `json:"running"`
}

func (a *App) sessionList(ctx context.Context, all, asJSON bool) error {
	l, err := a.locator(ctx)
	if err != nil {
		return err
	}
	items := []sessionItem{}
	for _, s := range l.sessions {
		if !s.Live && !all {
			continue
		}
		item := sessionItem{Info: s, Current: s.ID == l.current}
		for _, r := range recordsOf(ctx, s) {
			item.Jobs++
			if holdsContainer(r) {
				item.Running++
			}
		}
		items = append(items, item)
	}
	if asJSON {
		return a.printJSON(items)
	}
	var rows [][]string
	for _, i := range items {
		mark := ""
		if i.Current {
			mark = "*"
		}
		age := ui.Duration(a.Now().Sub(i.Created))
		rows = append(rows, []string{mark, i.ID, i.Name, a.ownerOf(i.Info), jobsOf(i), age, ui.OneLine(i.Repo)})
	}
	return ui.Table(a.Stdout, width(a.Stdout), []string{"", "ID", "NAME", "ENDS WITH", "JOBS", "AGE", "DIRECTORY"}, rows)
}

// ownerOf says what a session ends with.
func (a *App) ownerOf(s runner.Info) string {
	if !s.Live {
		return "(ended)"
	}
	switch s.Owner.Kind {
	case runner.OwnerTerminal:
		return "terminal of " + strconv.Itoa(s.Owner.PID)
	case runner.OwnerProcess:
		return "process " + strconv.Itoa(cmp.Or(s.Owner.PID, s.PID)) // no owner: it is its own
	}
	return shortDuration(s.Owner.Lease) + " without use"
}

// shortDuration is that of a setting: 2h, not 2h0m0s.
func shortDuration(d time.Duration) string {
	text := strings.TrimSuffix(d.String(), "0s")
	if cut := strings.TrimSuffix(text, "0m"); strings.HasSuffix(text, "h0m") {
		text = cut
	}
	return text
}

func jobsOf(i sessionItem) string {
	if i.Running == i.Jobs {
		return strconv.Itoa(i.Jobs)
	}
	return fmt.Sprintf("%d of %d", i.Running, i.Jobs)
}

func newSessionEndCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "end [SESSION]",
		Short: "End a session: all its jobs, and all their files but records and logs",
		Long: `End a session: all its jobs, and all their files but records and logs, which
stay readable for seven days. Without a name, the one that commands here use.`,
		Example: "  berth session end\n  berth session end ci",
		Args:    arguments(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.sessionEnd(cmd.Context(), args)
		},
		ValidArgsFunction: app.completeSession,
	}
}

func (a *App) sessionEnd(ctx context.Context, args []string) error {
	l, err := a.locator(ctx)
	if err != nil {
		return err
	}
	var s runner.Info
	if len(args) == 1 {
		s, err = l.session(args[0])
	} else {
		s, err = l.session(l.current)
	}
	if err != nil {
		return err
	}
	c := keeper.Dial(s)
	defer c.Close()
	return c.End(ctx, "berth session end")
}

// session finds a live session by name, ID, or the end of an ID; "" is none.
func (l *locator) session(name string) (runner.Info, error) {
	var hits []runner.Info
	ended := false
	for _, s := range l.sessions {
		if name == "" || s.Name != name && (len(name) < 4 || !strings.HasSuffix(s.ID, strings.ToUpper(name))) {
			continue
		}
		if s.Live {
			hits = append(hits, s)
		}
		ended = ended || !s.Live
	}
	const hint = "berth session ls lists those that live"
	switch {
	case len(hits) == 1:
		return hits[0], nil
	case len(hits) > 1:
		return runner.Info{}, usageError(hint, "%q could be any of %d sessions", name, len(hits))
	case ended:
		return runner.Info{}, &runner.EndedError{Session: name}
	case name == "":
		return runner.Info{}, usageError(hint, "no session has begun here")
	}
	return runner.Info{}, usageError(hint, "no session %q", name)
}
