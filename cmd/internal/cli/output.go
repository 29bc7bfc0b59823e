package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/cmd/internal/ui"
	"berth/runner"
	"berth/runner/frugal"
	"berth/runner/logstore"
)

// outputOptions are the flags of output.
type outputOptions struct {
	frugal.Options
	Since  string // last, start, or a cursor
	Reader string
	JSON   bool
}

func newOutputCmd(app *App) *cobra.Command {
	var (
		o            outputOptions
		grep, stream string
	)
	cmd := &cobra.Command{
		Use:   "output [flags] JOB",
		Short: "Print a job's output for programs and agents: cleaned, cut, and only what is new",
		Long: `Print a job's output for programs and agents: cleaned, cut, and only what is new.
The raw output is what berth logs prints.

Escape sequences are removed, progress bars and repeated lines folded, long
lines cut, and of what is still too much the middle left out, with a note from
where to read it. The first line on stderr tells the job's state and the cursor
to go on from; with --since last, berth remembers it for you, under the name of
the --reader. Reading with a filter (--grep, --head, --tail, --stream) does not
move that mark. --since start and a number read the same again at any time.`,
		Example: `  berth output test-1
  berth output --since last test-1       what came since the last reading
  berth output --since 18843 test-1      from a cursor on
  berth output --grep 'FAIL|panic' --context 3 test-1
  berth output --json test-1`,
		Args: arguments(1, 1, "the name of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Stream, err = parseStream(stream); err != nil {
				return err
			}
			if grep != "" {
				if o.Grep, err = regexp.Compile(grep); err != nil {
					return &runner.InvalidError{What: "regular expression", Value: grep, Why: strings.TrimPrefix(err.Error(), "error parsing regexp: ")}
				}
			} else if o.Invert || o.Context > 0 {
				return usageError("add --grep REGEX", "--invert and --context need --grep")
			}
			for _, flag := range []string{"tail", "head", "context", "max-bytes"} {
				if n := cmd.Flag(flag).Value.String(); strings.HasPrefix(n, "-") {
					return &runner.InvalidError{What: "value of --" + flag, Value: n, Why: "it is negative"}
				}
			}
			return app.output(cmd.Context(), args[0], o)
		},
		ValidArgsFunction: app.completeJob(anyJob),
	}
	f := cmd.Flags()
	f.StringVar(&o.Since, "since", "start", "where to begin: start, last (reading), or a `cursor`")
	f.IntVar(&o.Tail, "tail", 0, "only the last `n` lines")
	f.IntVar(&o.Head, "head", 0, "only the first `n` lines")
	f.StringVar(&grep, "grep", "", "only lines that match the regular expression `regex`")
	f.BoolVar(&o.Invert, "invert", false, "only lines that do not match")
	f.IntVar(&o.Context, "context", 0, "`n` lines around each match too")
	f.StringVar(&stream, "stream", "", "only `stdout` or stderr")
	f.IntVar(&o.MaxBytes, "max-bytes", frugal.DefaultMaxBytes, "print at most `n` bytes")
	f.StringVar(&o.Reader, "reader", "cli", "who reads, for --since last: a `name`")
	f.BoolVar(&o.JSON, "json", false, "print text, cursor and state as JSON")
	cmd.RegisterFlagCompletionFunc("since", cobra.FixedCompletions([]string{"start", "last"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("stream", cobra.FixedCompletions([]string{"stdout", "stderr"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func parseStream(s string) (logstore.Stream, error) {
	switch s {
	case "":
		return 0, nil
	case "stdout":
		return logstore.Stdout, nil
	case "stderr":
		return logstore.Stderr, nil
	}
	return 0, &runner.InvalidError{What: "stream", Value: s, Why: "it is neither stdout nor stderr"}
}

// outputResult is what output prints as JSON.
type outputResult struct {
	Handle      string       `json:"handle"`
	ID          string       `json:"id"`
	State       runner.State `json:"state"`
	Exit        *runner.Exit `json:"exit,omitempty"`
	Text        string       `json:"text"`
	Since       int64        `json:"since"`
	Next        int64        `json:"next"`   // cursor to go on from
	Size        int64        `json:"size"`   // of the log, bytes
	Closed      bool         `json:"closed"` // nothing will come after next
	Lines       int          `json:"lines"`
	Missing     int64        `json:"missing"`      // bytes that the log does not have
	Elided      int64        `json:"elided"`       // bytes of text left out
	ElidedLines int          `json:"elided_lines"` //
	ElidedFrom  int64        `json:"elided_from"`  // cursor to read them from
}

func (a *App) output(ctx context.Context, name string, o outputOptions) error {
	job, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	mark, err := readerMark(job.record, o.Reader)
	if err != nil {
		return err
	}
	if o.Options.Since, err = since(o.Since, mark); err != nil {
		return err
	}
	r, err := job.log()
	if err != nil {
		return err
	}
	res, err := frugal.Read(r, o.Options)
	if err != nil {
		return err
	}
	if o.JSON {
		err = a.printJSON(outputResult{
			Handle: job.record.Handle, ID: job.record.ID, State: job.record.State, Exit: job.record.Exit,
			Text: res.Text, Since: o.Options.Since, Next: res.Next, Size: res.Size, Closed: res.Closed, Lines: res.Lines,
			Missing: res.Missing, Elided: res.Elided, ElidedLines: res.ElidedLines, ElidedFrom: res.ElidedFrom,
		})
	} else {
		fmt.Fprintf(a.Stderr, "[%s]\n", strings.Join(a.outputHeader(job.record, res), " | "))
		_, err = io.WriteString(a.Stdout, res.Text)
	}
	if err != nil || o.Grep != nil || o.Head > 0 || o.Tail > 0 || o.Stream != 0 {
		return err
	}
	return moveMark(mark, res.Next)
}

func (a *App) outputHeader(r runner.Record, res frugal.Result) []string {
	parts := []string{r.Handle + " " + stateOf(r)}
	if d := ui.Duration(r.Runtime(a.Now())); d != "" {
		parts = append(parts, d)
	}
	return append(parts, "+"+ui.Bytes(res.Bytes), fmt.Sprintf("next=%d", res.Next))
}

// since reads the value of --since; mark is where the last reading left off.
func since(value, mark string) (int64, error) {
	switch value {
	case "start":
		return 0, nil
	case "last":
		data, err := os.ReadFile(mark)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		value = strings.TrimSpace(string(data))
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, &runner.InvalidError{What: "cursor", Value: value, Why: "it is not a number", Hint: "use --since start, last, or the number after next="}
	}
	return n, nil
}

var readerRule = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,62}$`)

// readerMark is the file with a reader's cursor in the job's directory.
func readerMark(r runner.Record, reader string) (string, error) {
	if !readerRule.MatchString(reader) {
		return "", &runner.InvalidError{What: "reader", Value: reader, Why: "a name has up to 63 letters, digits, dots, dashes and underscores"}
	}
	return filepath.Join(r.Dirname, "readers", reader), nil
}

// moveMark replaces the file as a whole, so that readers of one name who read
// at once leave one of their cursors, not a mixture.
func moveMark(path string, cursor int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, cursor)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
