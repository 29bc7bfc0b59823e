package runner

import (
	"context"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// exitPoll is the pause between two looks for the exit code of an exec, which
// the engine knows a little after its output has ended.
const exitPoll = 10 * time.Millisecond

// Exec runs a further command in a job's container; see [Service].
func (s *Session) Exec(ctx context.Context, r ExecRequest, stdio ExecIO) (int, error) {
	defer s.use()()
	j, err := s.find(r.Job)
	if err != nil {
		return 0, err
	}
	record := j.Record()
	if record.State == Preparing || record.State == Ended && !(record.Keep && !record.Gone) {
		return 0, &NotRunningError{record}
	}
	if len(r.Argv) == 0 {
		return 0, &InvalidError{What: "command", Why: "there is none", Hint: "put it after --, as in: berth exec " + r.Job + " -- ps"}
	}
	for _, a := range append(slices.Clone(r.Argv), r.Env...) {
		if !utf8.ValidString(a) {
			return 0, &InvalidError{What: "argument", Value: a, Why: "it is not UTF-8, as engines want for a further command"}
		}
	}
	options := container.ExecOptions{
		Cmd:          append([]string{initPath, "exec"}, r.Argv...),
		Env:          lastOfEach(append(append([]string{}, j.env...), r.Env...)),
		WorkingDir:   record.Dir,
		Tty:          r.TTY,
		AttachStdin:  r.Stdin,
		AttachStdout: true,
		AttachStderr: true,
	}
	if r.TTY && r.Size.Rows > 0 {
		options.ConsoleSize = &[2]uint{r.Size.Rows, r.Size.Cols}
	}
	call, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	created, err := s.engine.ContainerExecCreate(call, record.Container, options)
	if err != nil {
		return 0, engineError("prepare the command", err)
	}
	conn, err := s.engine.ContainerExecAttach(call, created.ID, container.ExecAttachOptions{Tty: r.TTY, ConsoleSize: options.ConsoleSize})
	if err != nil {
		return 0, engineError("start the command", err)
	}
	defer conn.Close()
	over, stop := context.WithCancel(ctx)
	defer stop()
	// When the caller leaves, the connection is closed, which ends the reading
	// below, and the command's input and output.
	defer context.AfterFunc(ctx, conn.Close)()

	if r.TTY {
		go s.resize(over, created.ID, r.Size, stdio.Resize)
	}
	if r.Stdin {
		go func() { // ends with the caller's input or the connection
			io.Copy(conn.Conn, stdio.Stdin)
			conn.CloseWrite()
		}()
	}
	if r.TTY {
		_, err = io.Copy(stdio.Stdout, conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(stdio.Stdout, stdio.Stderr, conn.Reader)
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, engineError("read the command's output", err)
	}
	return s.execExit(ctx, created.ID)
}

func (s *Session) resize(ctx context.Context, exec string, size Size, sizes <-chan Size) {
	for {
		if size.Rows > 0 && size.Cols > 0 {
			s.engine.ContainerExecResize(ctx, exec, container.ResizeOptions{Height: size.Rows, Width: size.Cols}) // at worst the terminal looks odd
		}
		select {
		case next, ok := <-sizes:
			if !ok {
				return
			}
			size = next
		case <-ctx.Done():
			return
		}
	}
}

func (s *Session) execExit(ctx context.Context, exec string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	for {
		info, err := s.engine.ContainerExecInspect(ctx, exec)
		if err != nil {
			return 0, engineError("read the command's exit code", err)
		}
		if !info.Running {
			return info.ExitCode, nil
		}
		select {
		case <-time.After(exitPoll):
		case <-ctx.Done():
			return 0, engineError("read the command's exit code", ctx.Err())
		}
	}
}
