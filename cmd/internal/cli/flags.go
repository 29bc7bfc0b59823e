package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/runner"
)

// duration is a flag with a value such as 90s.
type duration struct {
	value time.Duration
	set   bool
}

func (d *duration) Set(s string) (err error) {
	d.value, err = parseDuration(s)
	d.set = err == nil
	return err
}

func (d *duration) String() string {
	if d.value == 0 {
		return ""
	}
	return d.value.String()
}

func (d *duration) Type() string { return "duration" }

func parseDuration(s string) (time.Duration, error) {
	bad := &runner.InvalidError{What: "duration", Value: s, Hint: "use 500ms, 90s, 5m or 1h30m"}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		bad.Why = "it is not a number with a unit"
		return 0, bad
	case d < 0:
		bad.Why = "it is negative"
		return 0, bad
	}
	return d, nil
}

// waitFlag is --wait or --wait=DURATION.
type waitFlag struct {
	set   bool
	limit time.Duration // 0 is none
}

// waitForEnd is what --wait alone stands for.
const waitForEnd = "end"

func (w *waitFlag) Set(s string) (err error) {
	w.limit = 0
	if s != waitForEnd {
		if w.limit, err = parseDuration(s); err == nil && w.limit == 0 {
			err = &runner.InvalidError{What: "duration", Value: s, Why: "it is zero", Hint: "leave out --wait to return at once"}
		}
	}
	w.set = err == nil
	return err
}

func (w *waitFlag) String() string {
	switch {
	case !w.set:
		return ""
	case w.limit == 0:
		return waitForEnd
	}
	return w.limit.String()
}

func (w *waitFlag) Type() string { return "duration" }

// condition is a flag with a runner.Condition.
type condition struct{ value runner.Condition }

func (c *condition) Set(s string) (err error) {
	c.value, err = runner.ParseCondition(s)
	return err
}

func (c *condition) String() string {
	if c.value.Kind == "" {
		return ""
	}
	return c.value.String()
}

func (c *condition) Type() string { return "condition" }

// ports is a flag that may be repeated.
type ports []runner.PortSpec

func (p *ports) Set(s string) error {
	port, err := runner.ParsePort(s)
	*p = append(*p, port)
	return err
}

func (p *ports) String() string {
	var list []string
	for _, port := range *p {
		list = append(list, port.String())
	}
	return strings.Join(list, " ")
}

func (p *ports) Type() string { return "port" }

func flagOrigin(name string) configs.Origin {
	return configs.Origin{Kind: configs.FromFlag, Name: "--" + name}
}

// setting is a flag that sets a key of the configuration.
type setting struct {
	layer     *configs.Layer
	flag, key string
	text      string
}

func (s *setting) Set(text string) error {
	if s.text = text; text == "" && s.key == "image" {
		return nil // which has an error of its own
	}
	return s.layer.Set(s.key, text, flagOrigin(s.flag))
}

func (s *setting) String() string { return s.text }

func (s *setting) Type() string { return "value" }

// carry is a flag with auto, off or a path, which may be repeated.
type carry struct{ layer *configs.Layer }

func (c *carry) Set(s string) error {
	from := flagOrigin("carry")
	_, again := c.layer.From["carry"]
	word := s == string(configs.Auto) || s == string(configs.Off)
	switch {
	case again && (word || len(c.layer.Carry.Paths) == 0):
		return &configs.VariableError{Name: "--carry", Value: s, Why: "auto and off stand alone", Hint: "a path of that name is ./" + s}
	case word:
		return c.layer.Set("carry", s, from)
	}
	if err := configs.CheckPath(s); err != nil {
		return &configs.VariableError{Name: "--carry", Value: s, Why: err.Error(), Hint: "name ignored files and directories from the top of the repository"}
	}
	c.layer.Carry.Paths = append(c.layer.Carry.Paths, filepath.Clean(s))
	c.layer.Mark("carry", from)
	return nil
}

func (c *carry) String() string { return "" }

func (c *carry) Type() string { return "path" }

// signal is a flag with the name or number of a signal.
type signal struct{ number unix.Signal }

func (s *signal) Set(name string) error {
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	s.number = unix.SignalNum(upper)
	if s.number == 0 {
		var n int
		if _, err := fmt.Sscanf(name+"\n", "%d\n", &n); err == nil && unix.SignalName(unix.Signal(n)) != "" {
			s.number = unix.Signal(n)
		}
	}
	if s.number == 0 {
		return &runner.InvalidError{What: "signal", Value: name, Why: "there is none of that name", Hint: "use a name such as INT, HUP, USR1 or KILL"}
	}
	return nil
}

func (s *signal) String() string { return strings.TrimPrefix(unix.SignalName(s.number), "SIG") }

func (s *signal) Type() string { return "signal" }

// environment makes the entries of a job: those of the files, then those of
// the flags, of which one without a value takes that of the caller.
func (a *App) environment(ctx context.Context, files, flags []string) ([]string, error) {
	var env []string
	for _, path := range files {
		entries, err := a.envFile(ctx, path)
		if err != nil {
			return nil, err
		}
		env = append(env, entries...)
	}
	for _, entry := range flags {
		entry, err := a.entry(entry)
		if err != nil {
			return nil, err
		}
		env = append(env, entry)
	}
	return env, nil
}

func (a *App) entry(entry string) (string, error) {
	key, _, ok := strings.Cut(entry, "=")
	if key == "" || strings.ContainsAny(key, " \t\x00") {
		return "", &runner.InvalidError{What: "environment entry", Value: entry, Why: "it does not begin with a name", Hint: "write KEY=VALUE, or KEY to hand on your own value"}
	}
	if ok {
		return entry, nil
	}
	value, ok := a.lookupEnv(key)
	if !ok {
		return "", &runner.InvalidError{What: "environment entry", Value: entry, Why: "it has no value here", Hint: "write " + key + "=VALUE"}
	}
	return key + "=" + value, nil
}

// reason is an error of opening a file without its path.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// largestEnvFile bounds what is read as one: it all goes to the job's exec.
const largestEnvFile = 1 << 20

// readEnvFile reads a file, or stdin for "-". It may be a pipe that nobody
// writes to: an interrupt ends the wait, and the reader goes with the process.
func (a *App) readEnvFile(ctx context.Context, path string) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		f := a.Stdin
		if path != "-" {
			file, err := os.Open(a.path(path))
			if err != nil {
				done <- result{nil, err}
				return
			}
			defer file.Close()
			f = file
		}
		data, err := io.ReadAll(io.LimitReader(f, largestEnvFile+1))
		done <- result{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r := <-done:
		switch {
		case r.err != nil:
			return nil, &runner.InvalidError{What: "env file", Value: path, Why: reason(r.err)}
		case len(r.data) > largestEnvFile:
			return nil, &runner.InvalidError{What: "env file", Value: path, Why: "it is larger than 1 MiB"}
		}
		return r.data, nil
	}
}

// envFile reads lines KEY=VALUE or KEY as docker does: a line that begins with
// # is a comment, and nothing is unquoted.
func (a *App) envFile(ctx context.Context, path string) ([]string, error) {
	data, err := a.readEnvFile(ctx, path)
	if err != nil {
		return nil, err
	}
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, largestEnvFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line == "" || line[0] == '#' {
			continue
		}
		entry, err := a.entry(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		env = append(env, entry)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("env file %s: %w", path, err)
	}
	return env, nil
}
