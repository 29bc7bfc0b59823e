//go:build linux

package main

import (
	"bufio"
	"context"
	"io"
	"math"
	"os"
	"runtime/debug"

	"berth/runner/control"
	"berth/worktree/overlay"
)

// longestRequest is more than a batch of paths takes.
const longestRequest = 16 << 20

// help answers requests to read and remove layers until its input ends, which also interrupts the one under way: the caller is
// gone. What is asked for comes from our own keeper or command; what is found in the layers is the job's.
func help() int {
	debug.SetMemoryLimit(math.MaxInt64) // no job shares this container
	requests := make(chan control.Message)
	go func() {
		in := bufio.NewReaderSize(os.Stdin, 64<<10)
		for {
			line, err := readLine(in)
			if err != nil {
				os.Exit(0)
			}
			m, err := control.Parse(line)
			if err != nil {
				os.Exit(exitNotInit)
			}
			requests <- m
		}
	}()
	h := helper{out: bufio.NewWriterSize(os.Stdout, 64<<10), chunk: make([]byte, 256<<10)}
	for m := range requests {
		err := h.answer(m)
		h.send(control.DoneMessage(err))
		if h.out.Flush() != nil {
			return exitOrphaned
		}
	}
	return 0
}

func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil || err != bufio.ErrBufferFull {
			return line, err
		}
		if len(line) > longestRequest {
			return nil, control.ErrMalformed
		}
	}
}

type helper struct {
	out   *bufio.Writer
	line  []byte
	chunk []byte
}

func (h *helper) answer(m control.Message) error {
	ctx, layers := context.Background(), overlay.Stack(m.All("layer"))
	entry := func(e overlay.Entry) error { return h.send(control.EntryMessage(e)) }
	switch m.Op {
	case control.OpChanges:
		return layers.Changes(ctx, m.Int("n"), entry)
	case control.OpList:
		return layers.List(ctx, m.Get("path"), entry)
	case control.OpRead:
		return overlay.Local{}.Read(ctx, layers, m.All("path"), h.content)
	case control.OpEmpty:
		return overlay.Empty(ctx, m.All("dir")...)
	}
	return control.ErrMalformed
}

func (h *helper) content(e overlay.Entry, r io.Reader) error {
	if err := h.send(control.EntryMessage(e)); err != nil {
		return err
	}
	for {
		n, err := r.Read(h.chunk)
		if n > 0 {
			if err := h.send(control.Message{Op: control.OpChunk}.AddInt("size", n)); err != nil {
				return err
			}
			if _, err := h.out.Write(h.chunk[:n]); err != nil {
				return err
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return h.send(control.Message{Op: control.OpEnd}.AddInt("short", 0))
		case io.ErrUnexpectedEOF:
			return h.send(control.Message{Op: control.OpEnd}.AddInt("short", 1))
		default:
			return err
		}
	}
}

func (h *helper) send(m control.Message) error {
	h.line = m.Append(h.line[:0])
	_, err := h.out.Write(h.line)
	return err
}
