package cli

import (
	"context"
	"os"
	ossignal "os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/runner"
)

// execOptions are the flags and the command of exec.
type execOptions struct {
	Job   string
	Argv  []string
	Env   []string
	Stdin bool
	TTY   bool
}

func newExecCmd(app *App) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [flags] JOB -- COMMAND [ARG...]",
		Short: "Run another command in the container of a running job",
		Long: `Run another command in the container of a running job, with the job's user,
environment and directory, and exit with its code.

A command that is still running when berth exec is ended loses its input and
output, and goes on until the job ends: engines cannot end it.`,
		Example: `  berth exec web -- ps aux
  berth exec web -- git diff
  echo 'select 1' | berth exec -i db -- psql
  berth exec -it web -- python3`,
		Args: arguments(2, -1, "the name of a job and a command, as in: berth exec web -- ps"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Job, o.Argv = args[0], args[1:]
			// After the first argument flags are not read any more, nor is this.
			if o.Argv[0] == "--" {
				o.Argv = o.Argv[1:]
			}
			return app.exec(cmd.Context(), o)
		},
		ValidArgsFunction: app.completeJob(holdsContainer),
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.Stdin, "interactive", "i", false, "connect stdin")
	f.BoolVarP(&o.TTY, "tty", "t", false, "give it a terminal")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "set a variable: `KEY=VALUE`, or KEY to hand on your own value")
	return cmd
}

func newShellCmd(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "shell JOB",
		Short: "Open a shell in the container of a running job",
		Long: `Open a shell in the container of a running job: bash if it is there, else sh.
Of a job that was run with --keep also after its end.`,
		Example: `  berth shell web
  berth run --keep --wait -- make || berth shell make-1`,
		Args: arguments(1, 1, "the name of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, in := terminal(app.Stdin)
			_, out := terminal(app.Stdout)
			return app.exec(cmd.Context(), execOptions{
				Job:   args[0],
				Argv:  runner.Shell("if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"),
				Stdin: true,
				TTY:   in && out,
			})
		},
		ValidArgsFunction: app.completeJob(holdsContainer),
	}
}

func (a *App) exec(ctx context.Context, o execOptions) error {
	env, err := a.environment(ctx, nil, o.Env)
	if err != nil {
		return err
	}
	if name, ok := a.lookupEnv("TERM"); ok && o.TTY && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		env = append(env, "TERM="+name)
	}
	job, err := a.find(ctx, o.Job)
	if err != nil {
		return err
	}
	if job, err = untilKnown(ctx, job); err != nil {
		return err
	}
	session, err := job.service()
	if err != nil {
		return err
	}
	defer session.Close()
	request := runner.ExecRequest{Job: job.record.ID, Argv: o.Argv, Env: env, TTY: o.TTY, Stdin: o.Stdin}
	stdio := runner.ExecIO{Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr}
	if o.TTY {
		restore, err := a.rawTerminal()
		if err != nil {
			return err
		}
		defer restore()
		request.Size = a.size()
		watching, stop := context.WithCancel(ctx)
		sizes, joined := a.watchSize(watching)
		stdio.Resize = sizes
		defer func() { stop(); <-joined }()
	}
	code, err := session.Exec(ctx, request, stdio)
	if err != nil {
		return err
	}
	return codeOf(code)
}

// rawTerminal hands every key on to the job, if stdin is a terminal. restore
// is to be called in any case.
func (a *App) rawTerminal() (restore func(), err error) {
	fd, ok := terminal(a.Stdin)
	if !ok {
		return func() {}, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { term.Restore(fd, state) }, nil
}

// size is that of our terminal, zero if there is none.
func (a *App) size() runner.Size {
	for _, stream := range []any{a.Stdout, a.Stdin} {
		if fd, ok := terminal(stream); ok {
			if columns, rows, err := term.GetSize(fd); err == nil {
				return runner.Size{Rows: uint(rows), Cols: uint(columns)}
			}
		}
	}
	return runner.Size{}
}

// watchSize tells each new size of our terminal until ctx is done, and then
// closes joined.
func (a *App) watchSize(ctx context.Context) (sizes <-chan runner.Size, joined <-chan struct{}) {
	changed := make(chan os.Signal, 1)
	ossignal.Notify(changed, syscall.SIGWINCH)
	out, done := make(chan runner.Size), make(chan struct{})
	go func() {
		defer close(done)
		defer ossignal.Stop(changed)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case out <- a.size():
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, done
}
