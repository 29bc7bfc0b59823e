package worktree

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MinVersion is the oldest git that this package is written for: it needs `rev-parse --path-format`,
// parallel checkout and GIT_CONFIG_GLOBAL.
const MinVersion = "2.32"

// Version is the version of the git found in PATH, such as "2.39.5". Without git the error wraps [exec.ErrNotFound].
func Version(ctx context.Context) (string, error) {
	out, err := git{}.run(ctx, "version")
	if err != nil {
		return "", err
	}
	v, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "git version "), " ")
	return v, nil
}

// git is one way of calling git: what it may read and where it works.
type git struct {
	dir       string   // working directory; "" is /
	gitDir    string   // GIT_DIR; "" lets git look for it from dir on, which also checks who owns the repository
	workTree  string   // GIT_WORK_TREE
	index     string   // GIT_INDEX_FILE
	objects   string   // GIT_OBJECT_DIRECTORY: where new objects go
	config    []string // key=value, for -c
	env       []string // more of the environment
	stdin     io.Reader
	stdout    io.Writer // where standard output goes instead of into memory
	userReads bool      // the user's global and system configuration count
}

// passed is what git gets of our own environment. Everything else stays out: a hook that calls berth runs
// with GIT_DIR and GIT_INDEX_FILE set, and a shell may have any GIT_ variable.
var passed = [...]string{"PATH", "HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME", "TMPDIR", "SUDO_UID"}

// passedUser locate the user's own configuration.
var passedUser = [...]string{"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"}

// fixedConfig turns off whatever could start a program or write where nobody asked for it.
var fixedConfig = [...]string{
	"core.hooksPath=/dev/null", "core.fsmonitor=false", "core.untrackedCache=false", "core.splitIndex=false",
	"core.attributesFile=/dev/null", "core.pager=cat", "core.quotePath=false",
	"protocol.allow=never", "submodule.recurse=false", "gc.auto=0", "maintenance.auto=false",
	"index.sparse=false", "core.sparseCheckout=false", "advice.detachedHead=false",
	// One sync at the end instead of one for each object.
	"core.fsyncMethod=batch",
}

func (g git) environ() []string {
	env := []string{
		"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "GIT_ATTR_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=berth", "GIT_AUTHOR_EMAIL=berth@localhost", "GIT_AUTHOR_DATE=@0 +0000",
		"GIT_COMMITTER_NAME=berth", "GIT_COMMITTER_EMAIL=berth@localhost", "GIT_COMMITTER_DATE=@0 +0000",
	}
	names := passed[:]
	if g.userReads {
		names = append(names[:len(names):len(names)], passedUser[:]...)
	} else {
		env = append(env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	}
	for _, n := range names {
		if v, ok := os.LookupEnv(n); ok {
			env = append(env, n+"="+v)
		}
	}
	for _, kv := range [...][2]string{{"GIT_DIR", g.gitDir}, {"GIT_WORK_TREE", g.workTree}, {"GIT_INDEX_FILE", g.index}, {"GIT_OBJECT_DIRECTORY", g.objects}} {
		if kv[1] != "" {
			env = append(env, kv[0]+"="+kv[1])
		}
	}
	return append(env, g.env...)
}

// run is the one place where git is started. It returns standard output; the error is a [*GitError].
func (g git) run(ctx context.Context, args ...string) ([]byte, error) {
	var argv []string
	for _, c := range fixedConfig {
		argv = append(argv, "-c", c)
	}
	for _, c := range g.config {
		argv = append(argv, "-c", c)
	}
	cmd := exec.CommandContext(ctx, "git", append(argv, args...)...)
	cmd.Dir = g.dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = g.environ()
	cmd.Stdin = g.stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if g.stdout != nil {
		cmd.Stdout = g.stdout
	}
	// SIGTERM lets git remove its lock files.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	text := stderr.String()
	if strings.Contains(text, "unable to write") && g.full() {
		err = errors.Join(err, syscall.ENOSPC) // git does not say so
	}
	return stdout.Bytes(), &GitError{Command: args[0], Line: lastLine(text), Stderr: text[:min(len(text), 64<<10)], Err: err}
}

// feed runs git with what write writes as its standard input. An error of write's own comes first.
func (g git) feed(ctx context.Context, write func(io.Writer) error, args ...string) ([]byte, error) {
	in, out := io.Pipe()
	written := make(chan error, 1)
	go func() {
		b := bufio.NewWriterSize(out, 64<<10)
		err := write(b)
		if err == nil {
			err = b.Flush()
		}
		out.CloseWithError(err)
		written <- err
	}()
	g.stdin = in
	answer, err := g.run(ctx, args...)
	in.Close()
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return answer, werr
	}
	return answer, err
}

// read runs git and hands its standard output to fn, which reads it to its end. When git fails, reading does with that error.
func (g git) read(ctx context.Context, fn func(io.Reader) error, args ...string) error {
	in, out := io.Pipe()
	done := make(chan error, 1)
	g.stdout = out
	go func() {
		_, err := g.run(ctx, args...)
		out.CloseWithError(err)
		done <- err
	}()
	err := fn(bufio.NewReaderSize(in, 64<<10))
	in.Close()
	if gitErr := <-done; err == nil {
		return gitErr
	}
	return err
}

// full tells whether there is no more room where git writes.
func (g git) full() bool {
	for _, d := range []string{g.workTree, g.gitDir, g.objects} {
		var fs unix.Statfs_t
		if d != "" && unix.Statfs(d, &fs) == nil && (fs.Bavail*uint64(fs.Bsize) < 1<<20 || fs.Files > 0 && fs.Ffree == 0) {
			return true
		}
	}
	return false
}

// lastLine is the last line of git's standard error that says what went wrong.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		for _, p := range []string{"fatal: ", "error: "} {
			if rest, ok := strings.CutPrefix(lines[i], p); ok {
				return strings.TrimSpace(rest)
			}
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// exitCode is the exit code of a git that ran and failed, else -1.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// splitZ cuts output of a -z command into its records.
func splitZ(out []byte) []string {
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}
