package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"berth/runner/logstore"
)

// readStep is how many bytes of a log are read at once.
const readStep = 256 << 10

// follow hands out a log from a cursor on until it is complete, or ctx is
// done: then what is there by that time comes still, and no error. It stops at
// the first error of emit.
func follow(ctx context.Context, r *logstore.Reader, cursor int64, s logstore.Stream, emit func(logstore.Chunk) error) error {
	for ctx.Err() == nil {
		chunks, next, err := r.ReadFrom(cursor, readStep, s)
		if err != nil {
			return err
		}
		for _, c := range chunks {
			if err := emit(c); err != nil {
				return err
			}
		}
		if next > cursor {
			cursor = next
			continue
		}
		more, err := r.Wait(ctx, cursor)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && !more {
			return nil
		}
	}
	for c, err := range r.Chunks(cursor, -1, s) {
		if err != nil {
			return err
		}
		if err := emit(c); err != nil {
			return err
		}
	}
	return nil
}

// raw writes chunks as they are to the stream that they came from.
func (a *App) raw(c logstore.Chunk) error {
	if c.Gap > 0 {
		a.note("%s", gapLine(c))
		return nil
	}
	_, err := a.stream(c.Stream).Write(c.Data)
	return err
}

func (a *App) stream(s logstore.Stream) io.Writer {
	if s == logstore.Stderr {
		return a.Stderr
	}
	return a.Stdout
}

func gapLine(c logstore.Chunk) string {
	why := "the disk did not take them"
	if c.Reason == logstore.Limit {
		why = "the log is at its limit"
	}
	return fmt.Sprintf("%d bytes are missing here: %s", c.Gap, why)
}

// stamped writes chunks with the time of arrival at the start of every line.
type stamped struct {
	app    *App
	inside [3]bool // by stream: the last byte written was no newline
}

// stampFormat is RFC 3339 with milliseconds.
const stampFormat = "2006-01-02T15:04:05.000Z07:00 "

func (s *stamped) emit(c logstore.Chunk) error {
	if c.Gap > 0 {
		return s.app.raw(c)
	}
	var out []byte
	for line := range bytes.Lines(c.Data) {
		if !s.inside[c.Stream] {
			out = c.Time.Local().AppendFormat(out, stampFormat)
		}
		out = append(out, line...)
		s.inside[c.Stream] = line[len(line)-1] != '\n'
	}
	_, err := s.app.stream(c.Stream).Write(out)
	return err
}

// longestPart is how much of a line without end is held back.
const longestPart = 64 << 10

// prefixed writes whole lines of one job among those of others, each with the
// job's name before it.
type prefixed struct {
	app    *App
	prefix string
	mu     *sync.Mutex // of all that write to the same place
	part   [3][]byte   // by stream: the line that has not ended
}

func (p *prefixed) emit(c logstore.Chunk) error {
	if c.Gap > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.app.note("%s%s", p.prefix, gapLine(c))
		return nil
	}
	p.part[c.Stream] = append(p.part[c.Stream], c.Data...)
	end := bytes.LastIndexByte(p.part[c.Stream], '\n') + 1
	if end == 0 && len(p.part[c.Stream]) < longestPart {
		return nil
	}
	if end == 0 {
		end = len(p.part[c.Stream])
	}
	err := p.write(c.Stream, p.part[c.Stream][:end])
	p.part[c.Stream] = append(p.part[c.Stream][:0], p.part[c.Stream][end:]...)
	return err
}

// flush writes last lines that have no newline.
func (p *prefixed) flush() error {
	for _, s := range []logstore.Stream{logstore.Stdout, logstore.Stderr} {
		if err := p.write(s, p.part[s]); err != nil {
			return err
		}
		p.part[s] = nil
	}
	return nil
}

func (p *prefixed) write(s logstore.Stream, lines []byte) error {
	var out []byte
	for line := range bytes.Lines(lines) {
		out = append(append(out, p.prefix...), line...)
		if line[len(line)-1] != '\n' {
			out = append(out, '\n')
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.app.stream(s).Write(out)
	return err
}
