//go:build linux

package main

import (
	"sync"

	"golang.org/x/sys/unix"

	"berth/runner/control"
)

// output copies what the job writes to the container's stdout and stderr, and
// puts our own frames between. The job writes to pipes of its own: could it
// open the container's stderr, it could read our nonce from there.
//
// Every write may block for as long as the keeper does not read, so nothing
// here is called by the supervisor's loop but queue, which never waits.
type output struct {
	marker  []byte
	streams [2]stream
	copying sync.WaitGroup

	mu     sync.Mutex
	filled sync.Cond
	frames [][]byte
}

// copySize is how much is copied at once. Larger pieces gain little, and the
// pages stay with init.
const copySize = 32 << 10

// stream is the container's stdout or stderr. The lock is held for a write as
// a whole, so that a frame never lands inside one.
type stream struct {
	mu sync.Mutex
	fd int
}

func newOutput(nonce string) *output {
	o := &output{marker: control.Marker(nonce), streams: [2]stream{{fd: 1}, {fd: 2}}}
	o.filled.L = &o.mu
	go o.writeFrames()
	return o
}

// pipes makes the pipes that the job is to write to and starts to copy from
// them. The caller closes the returned write ends once the job has them.
func (o *output) pipes() (stdout, stderr int, err error) {
	var ends [2]int
	for i := range o.streams {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return 0, 0, err
		}
		ends[i] = p[1]
		o.copying.Go(func() { o.streams[i].copyFrom(p[0]) })
	}
	return ends[0], ends[1], nil
}

// queue sends a frame on stderr, after those queued before it.
func (o *output) queue(m control.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames = append(o.frames, o.frame(m))
	o.filled.Signal()
}

// finish waits for the end of the job's output, reports how the job ended and
// marks the end of both streams. The caller has seen every process of the job
// die, so no pipe has a writer left.
func (o *output) finish(e control.Exited) {
	go func() {
		o.copying.Wait()
		end := control.Message{Op: control.OpEnd}
		o.streams[0].write(o.frame(end))
		o.queue(e.Message())
		o.queue(end)
	}()
}

func (o *output) frame(m control.Message) []byte {
	return m.Append(append([]byte(nil), o.marker...))
}

func (o *output) writeFrames() {
	for {
		o.mu.Lock()
		for len(o.frames) == 0 {
			o.filled.Wait()
		}
		next := o.frames[0]
		o.frames = o.frames[1:]
		o.mu.Unlock()
		o.streams[1].write(next)
	}
}

func (s *stream) copyFrom(fd int) {
	defer unix.Close(fd)
	buf := make([]byte, copySize)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		s.write(buf[:n])
	}
}

// write gives up on an error: the stream's reader is gone, and the end of
// standard input will tell.
func (s *stream) write(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		n, err := unix.Write(s.fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		p = p[n:]
	}
}
