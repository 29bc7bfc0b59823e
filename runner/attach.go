package runner

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"berth/runner/control"
	"berth/runner/logstore"
)

// sendDeadline bounds a message to init, which reads at once unless somebody
// has paused the container.
const sendDeadline = 5 * time.Second

// attachment is the connection to a container's init: its input, which is also
// the switch that ends everything when it breaks, and its two outputs.
type attachment struct {
	conn types.HijackedResponse
	mu   sync.Mutex // a message is written whole
}

// attach must come before the container's start, or output is lost and the
// container may run without its switch.
func attach(ctx context.Context, eng Engine, id string) (*attachment, error) {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	conn, err := eng.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return nil, engineError("attach to container", err)
	}
	return &attachment{conn: conn}, nil
}

func (a *attachment) send(m control.Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn.Conn.SetWriteDeadline(time.Now().Add(sendDeadline))
	_, err := a.conn.Conn.Write(m.Append(nil))
	return engineError("write to container", err)
}

// closeInput tells init that its owner needs it no more.
func (a *attachment) closeInput() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.conn.CloseWrite(); err != nil {
		a.conn.Close() // a transport that cannot close one way: closing both says the same
	}
}

func (a *attachment) close() { a.conn.Close() }

// read takes the two outputs apart until they end: the job's output goes to
// log, init's frames to frame, which are called by this goroutine alone.
func (a *attachment) read(nonce string, log func(logstore.Stream, []byte), frame func(logstore.Stream, control.Message)) error {
	filter := func(stream logstore.Stream) *control.Filter {
		return control.NewFilter(nonce,
			func(p []byte) { log(stream, p) },
			func(m control.Message) { frame(stream, m) })
	}
	stdout, stderr := filter(logstore.Stdout), filter(logstore.Stderr)
	_, err := stdcopy.StdCopy(stdout, stderr, a.conn.Reader)
	stdout.Flush()
	stderr.Flush()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
