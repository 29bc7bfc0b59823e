package keeper

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// An exec goes on, after an HTTP upgrade, with frames both ways: one byte that
// says what it is, four with the length of what follows, most significant
// first.
const (
	upgradeName = "berth-exec"

	frameInput    = 'i' // client: for the command's stdin; at most inputWindow of them without a taken
	frameInputEnd = 'e' // client: the end of it
	frameResize   = 'r' // client: runner.Size as JSON
	frameTaken    = 't' // server: the command has taken one input frame
	frameStdout   = 'o' // server
	frameStderr   = 's' // server
	frameExit     = 'x' // server, last: the exit code as JSON
	frameFault    = 'f' // server, last: runner.Explained as JSON

	largestFrame = 1 << 20
	// inputWindow bounds the input under way, so that the server never has to
	// stop reading, and notices when the client leaves.
	inputWindow = 16
)

// frameWriter writes frames whole, from several goroutines.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(kind byte, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	header := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(p)))
	if _, err := f.w.Write(append(header, p...)); err != nil {
		return err
	}
	return nil
}

// stream is an io.Writer that makes frames of one kind.
func (f *frameWriter) stream(kind byte) io.Writer { return frameStream{f, kind} }

type frameStream struct {
	f    *frameWriter
	kind byte
}

func (s frameStream) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, largestFrame)
		if err := s.f.write(s.kind, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

func readFrame(r io.Reader) (kind byte, p []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n > largestFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes is too large", n)
	}
	p = make([]byte, n)
	_, err = io.ReadFull(r, p)
	return header[0], p, err
}
