// Package cli is the command line of berth: a file for each verb, which parses
// flags into options and hands them to a plain function.
//
// It obeys a few rules. Results go to stdout and everything else to stderr.
// A text for a user is lower case, one line, without a full stop; what to do
// about it is a hint on a line of its own. Only errors.go prints errors. There
// is no colour. With --json a command prints JSON alone.
package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"berth/configs"
	"berth/runner"
	"berth/runner/keeper"
)

// App is what a command is run with, so that nothing is taken from the process
// behind its back.
type App struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string // KEY=VALUE
	Dir     string   // working directory, absolute
	Version string
	Now     func() time.Time

	session string // --session
}

// Run runs one command line, args without the program's name, and returns the
// exit code. A context that ends because of a signal has an [Interrupted] as
// its cause.
func Run(ctx context.Context, args []string, app App) int {
	root := newRootCmd(&app)
	root.SetArgs(args)
	return app.report(ctx, root.ExecuteContext(ctx))
}

func (a *App) getenv(key string) string {
	value, _ := a.lookupEnv(key)
	return value
}

// lookupEnv finds a variable; of one given twice the last counts.
func (a *App) lookupEnv(key string) (value string, ok bool) {
	for _, e := range a.Environ {
		if v, found := strings.CutPrefix(e, key+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}

// caller is who the command is run by, for finding its session.
func (a *App) caller() (keeper.Caller, error) {
	dirs, err := configs.FindDirs(a.getenv)
	if err != nil {
		return keeper.Caller{}, err
	}
	// A directory that is gone still says which repository is meant: jobs can
	// be looked at and ended from it.
	dir := a.Dir
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return keeper.Caller{Dirs: dirs, Getenv: a.getenv, Dir: dir, Session: a.session, Version: a.Version}, nil
}

// callerHere is the caller of a command that needs the working directory.
func (a *App) callerHere() (keeper.Caller, error) {
	if info, err := os.Stat(a.Dir); err != nil || !info.IsDir() || !filepath.IsAbs(a.Dir) {
		return keeper.Caller{}, usageError("cd to one that exists", "the working directory is gone")
	}
	return a.caller()
}

// engine connects with the engine, which the caller closes.
func (a *App) engine(ctx context.Context) (runner.Engine, error) {
	c, err := runner.Connect(ctx, a.getenv)
	if err != nil {
		return nil, err // not c: a nil pointer is no nil interface
	}
	return c, nil
}

// sweep cleans up behind dead sessions. The error of one that is not asked for
// is dropped: the command that found it may have nothing to do with it, and gc
// and doctor show it.
func (a *App) sweep(ctx context.Context, all bool) (runner.SweepReport, error) {
	dirs, err := configs.FindDirs(a.getenv)
	if err != nil {
		return runner.SweepReport{}, err
	}
	var eng runner.Engine
	defer func() {
		if eng != nil {
			eng.Close()
		}
	}()
	return runner.Sweep(ctx, dirs, runner.EngineSetting(a.getenv), func(ctx context.Context) (_ runner.Engine, err error) {
		eng, err = a.engine(ctx)
		return eng, err
	}, all)
}

// note tells something on stderr that is no error.
func (a *App) note(format string, args ...any) {
	fmt.Fprintf(a.Stderr, "berth: "+format+"\n", args...)
}

// printJSON writes a value for a program to read.
func (a *App) printJSON(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// width is that of the terminal that stream is, 0 for anything else.
func width(stream any) int {
	f, ok := stream.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// terminal gives the descriptor of a stream that is a terminal.
func terminal(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}
