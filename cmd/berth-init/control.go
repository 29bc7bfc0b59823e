//go:build linux

package main

import (
	"bytes"

	"golang.org/x/sys/unix"

	"berth/runner/control"
)

// message is one line of the control channel, or why there is none.
type message struct {
	control.Message
	err error
}

func (m message) start() (control.Start, error) {
	if m.err != nil {
		return control.Start{}, m.err
	}
	return control.ParseStart(m.Message)
}

// readControl sends what arrives on standard input and closes the channel at
// its end, which means that the owner is gone. A line that is no message is
// dropped: only the keeper can write here, and it may be newer than we are.
func readControl(messages chan<- message) {
	defer close(messages)
	chunk := make([]byte, 8<<10)
	var pending []byte
	for {
		n, err := unix.Read(0, chunk)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		pending = append(pending, chunk[:n]...)
		for {
			end := bytes.IndexByte(pending, '\n')
			if end < 0 {
				break
			}
			m, err := control.Parse(pending[:end])
			messages <- message{m, err}
			pending = pending[end+1:]
		}
		if len(pending) == 0 {
			pending = nil // a large start message is not kept in memory
		}
	}
}
