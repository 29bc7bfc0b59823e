package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/configs"
	"berth/runner"
)

// exitCode ends the command with a code and without a text: that of a job, or
// one for which everything has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// codeOf is the error for an exit code.
func codeOf(code int) error {
	if code == 0 {
		return nil
	}
	return exitCode(code)
}

// Interrupted is the cause with which a context ends at a signal.
type Interrupted struct{ Signal os.Signal }

func (e Interrupted) Error() string { return "interrupted by " + e.Signal.String() }

func (e Interrupted) code() int {
	if s, ok := e.Signal.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return 130
}

// codePipe is what a shell gives for a program that wrote to a closed pipe.
const codePipe = 128 + int(syscall.SIGPIPE)

// usageError is a command line that makes no sense.
func usageError(hint, format string, args ...any) error {
	return &runner.Explained{Text: fmt.Sprintf(format, args...), Hint: hint, Status: runner.StatusFailed}
}

// report prints what is to be said of an error, and gives its exit code.
func (a *App) report(ctx context.Context, err error) int {
	var code exitCode
	var signal Interrupted
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &signal), ctx.Err() != nil && errors.As(context.Cause(ctx), &signal):
		return signal.code()
	case errors.Is(err, syscall.EPIPE):
		return codePipe
	}
	var file *configs.FileError
	if errors.As(err, &file) {
		for _, p := range file.Problems {
			a.complainOf(p)
		}
		return runner.StatusFailed
	}
	e := runner.Explain(err)
	a.complain(e.Text, e.Hint)
	return e.Status
}

// complainOf shows what is wrong with a configuration file, and where.
func (a *App) complainOf(p configs.Problem) {
	p.File = a.shortPath(p.File)
	text := ui.OneLine(p.String())
	for line := range strings.Lines(p.Excerpt) {
		text += "\n    " + strings.TrimSuffix(line, "\n")
	}
	a.complain(text, ui.OneLine(p.Hint))
}

func (a *App) complain(text, hint string) {
	fmt.Fprintln(a.Stderr, "berth: "+text)
	if hint != "" {
		fmt.Fprintln(a.Stderr, "hint: "+hint)
	}
}

// flagError is what the library for flags says, with a hint.
func flagError(cmd *cobra.Command, err error) error {
	help := cmd.CommandPath() + " --help lists the flags"
	var invalid *runner.InvalidError
	if errors.As(err, &invalid) {
		return invalid
	}
	var value *configs.VariableError
	if errors.As(err, &value) {
		return value
	}
	if strings.HasPrefix(err.Error(), "flag needs an argument: ") {
		return usageError(help, "%s needs a value", strings.TrimPrefix(err.Error(), "flag needs an argument: "))
	}
	return usageError(help, "%s", err.Error())
}

// arguments checks the number of arguments; most < 0 is any. what names the
// first that is missing.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		use := "use: " + cmd.UseLine()
		switch {
		case len(args) < least:
			return usageError(use, "%s needs %s", cmd.CommandPath(), what)
		case most >= 0 && len(args) > most:
			return usageError(use, "%s does not take %q", cmd.CommandPath(), args[most])
		}
		return nil
	}
}

// unknownCommand is the body of a command that only holds others: its help, or
// the error for a verb that is none.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hint := cmd.CommandPath() + " --help lists the commands"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError(hint, "no command %q", strings.TrimPrefix(cmd.CommandPath()+" "+args[0], "berth "))
}

// exitHint says what to do about a job that never ran, "" if nothing is known.
func exitHint(r runner.Record) string {
	if r.Exit == nil || r.Exit.Reason != runner.ReasonStartFailed {
		return ""
	}
	switch r.Exit.Code {
	case 127:
		if r.Image == "host" {
			return "check the name; a job sees the files of its snapshot and this machine's /usr, /opt and toolchains"
		}
		return "check the name; the image " + r.Image + " does not have it"
	case 126:
		return "make it executable with chmod +x, or run it by its interpreter"
	}
	if r.Exit.Hint != "" {
		return r.Exit.Hint
	}
	return "berth doctor looks at the engine and the directories"
}
