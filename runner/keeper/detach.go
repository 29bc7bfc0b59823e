package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/runner"
)

// startDeadline bounds the start of a keeper, which takes milliseconds.
const startDeadline = 20 * time.Second

// order is what a keeper is told on its standard input.
type order struct {
	Dirs configs.Dirs `json:"dirs"`
	Info runner.Info  `json:"info"`
}

// answer is what it says on its standard output, once.
type answer struct {
	Info  *runner.Info      `json:"info,omitempty"`
	Error *runner.Explained `json:"error,omitempty"`
}

// spawn starts this program again as the keeper of a new session. The keeper
// leads a process group and a terminal session of its own and inherits no
// descriptor of ours: whoever waits for our pipes to close, or kills our group,
// neither waits for it nor hits it.
func (c Caller) spawn(ctx context.Context, info runner.Info) (runner.Info, error) {
	program, err := os.Executable()
	if err != nil {
		return runner.Info{}, err
	}
	input, err := json.Marshal(order{c.Dirs, info})
	if err != nil {
		return runner.Info{}, err
	}
	// Standard error is for what nobody foresaw: a panic.
	trouble, err := os.OpenFile(filepath.Join(c.Dirs.State, "keeper.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return runner.Info{}, err
	}
	defer trouble.Close()
	keepDescriptors()

	cmd := exec.Command(program, "keeper")
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(string(input))
	cmd.Stderr = trouble
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// It will run git for later callers too, whatever PATH this one has.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/local/bin:/usr/bin:/bin")
	output, err := cmd.StdoutPipe()
	if err != nil {
		return runner.Info{}, err
	}
	if err := cmd.Start(); err != nil {
		return runner.Info{}, fmt.Errorf("start the session's keeper: %w", err)
	}
	late := time.AfterFunc(startDeadline, func() { cmd.Process.Kill() })
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	var a answer
	err = json.NewDecoder(bufio.NewReader(output)).Decode(&a)
	late.Stop()
	stop()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = fmt.Errorf("the session's keeper did not start (see %s): %w", trouble.Name(), err)
	case a.Error != nil:
		err = a.Error
	default:
		go cmd.Wait() // should it end before we do
		return runner.StateDir(c.Dirs.State).Session(a.Info.ID)
	}
	cmd.Process.Kill()
	cmd.Wait()
	return runner.Info{}, err
}

// keepDescriptors has every open descriptor closed in what we start: Go does
// so with its own, but we may have been given others.
func keepDescriptors() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// RunDetached is the life of a detached keeper: it reads what session it is to
// keep, answers whether that worked, and serves the session until it ends.
func RunDetached(ctx context.Context, stdin io.Reader, stdout io.WriteCloser, version string) error {
	var o order
	if err := json.NewDecoder(stdin).Decode(&o); err != nil || !filepath.IsAbs(o.Dirs.State) || !filepath.IsAbs(o.Dirs.Cache) {
		return &runner.InvalidError{What: "order", Why: "this command is for berth's own use"}
	}
	reply := func(a answer) {
		json.NewEncoder(stdout).Encode(a)
		stdout.Close()
	}
	session, err := newSession(o.Dirs, o.Info, version, os.Getenv)
	if err != nil {
		reply(answer{Error: runner.Explain(err)})
		return err
	}
	l, err := listen(session)
	if err != nil {
		session.End(ctx, "a failed start")
		reply(answer{Error: runner.Explain(err)})
		return err
	}
	info, _ := session.Info(ctx)
	reply(answer{Info: &info})
	return serve(ctx, session, l)
}

func newSession(dirs configs.Dirs, info runner.Info, version string, getenv func(string) string) (*runner.Session, error) {
	return runner.NewSession(runner.Options{
		Dirs:    dirs,
		Info:    info,
		Version: version,
		Connect: func(ctx context.Context) (runner.Engine, error) {
			c, err := runner.Connect(ctx, getenv)
			if err != nil {
				return nil, err // not c: a nil pointer is no nil interface
			}
			return c, nil
		},
	})
}

// Serve offers a session that this process keeps, and returns when it has
// ended: because its owner did, its lease was up, somebody asked for it, or
// ctx is done.
func Serve(ctx context.Context, session *runner.Session) error {
	l, err := listen(session)
	if err != nil {
		return errors.Join(err, session.End(ctx, "a failed start"))
	}
	return serve(ctx, session, l)
}

func serve(ctx context.Context, session *runner.Session, l *socket) error {
	server := &http.Server{Handler: newHandler(session)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	err := untilOver(ctx, session)
	// The call that asked for the end gets its answer.
	flush, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(flush) != nil {
		server.Close()
	}
	<-served
	l.remove()
	return err
}
