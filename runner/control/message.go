// Package control is the language that a session's keeper and berth-init, the
// first process of every job's container, speak with each other.
//
// Keeper to init, on the container's stdin, one message a line:
//
//	start   what to run, see [Start]; always first, exactly once
//	signal  number=N: send it to every process of the job
//	kill    grace=MS: SIGTERM to every process, SIGKILL after the grace
//
// The end of that stream means that the owner is gone, or has read everything:
// init ends whatever still runs and exits.
//
// Init to keeper, in band on the container's stderr, each behind a marker made
// of the nonce that only the two know (see [Filter]):
//
//	started    the command runs
//	listening  port=N: a program of the job listens on this TCP port
//	closed     port=N: it no longer does
//	exited     code=N signal=N reason=R error=TEXT, see [Exited]
//	end        nothing follows; on stdout as well
//
// Messages are not JSON: arguments and environment are byte strings, which
// JSON cannot carry unless they are UTF-8, and encoding/json would more than
// double the memory of an init.
package control

import (
	"errors"
	"strconv"
)

// Operations, the first word of a message.
const (
	OpStart     = "start"
	OpSignal    = "signal"
	OpKill      = "kill"
	OpStarted   = "started"
	OpListening = "listening"
	OpClosed    = "closed"
	OpExited    = "exited"
	OpEnd       = "end"
)

// ErrMalformed is returned for a line that is no message.
var ErrMalformed = errors.New("malformed control message")

// Message is one line: an operation and its arguments in order. A key may
// occur several times.
type Message struct {
	Op   string
	Args []Arg
}

// Arg is one argument of a message. Value may hold any bytes.
type Arg struct{ Key, Value string }

// Add appends an argument and returns the message, so that calls chain.
func (m Message) Add(key, value string) Message {
	m.Args = append(m.Args, Arg{key, value})
	return m
}

// AddInt appends a decimal argument.
func (m Message) AddInt(key string, value int) Message {
	return m.Add(key, strconv.Itoa(value))
}

// Get returns the first value of key, "" when there is none.
func (m Message) Get(key string) string {
	for _, a := range m.Args {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// Int returns the first value of key as a number, 0 when it is none.
func (m Message) Int(key string) int {
	n, _ := strconv.Atoi(m.Get(key))
	return n
}

// All returns every value of key, in order.
func (m Message) All(key string) []string {
	var values []string
	for _, a := range m.Args {
		if a.Key == key {
			values = append(values, a.Value)
		}
	}
	return values
}

// Append adds the message's line, newline included, to dst. Values are quoted,
// so the line itself holds no newline and no byte outside ASCII.
func (m Message) Append(dst []byte) []byte {
	dst = append(dst, m.Op...)
	for _, a := range m.Args {
		dst = append(dst, ' ')
		dst = append(dst, a.Key...)
		dst = append(dst, '=')
		dst = strconv.AppendQuoteToASCII(dst, a.Value)
	}
	return append(dst, '\n')
}

// Parse reads one line, with or without its newline.
func Parse(line []byte) (Message, error) {
	s := string(line)
	if n := len(s); n > 0 && s[n-1] == '\n' {
		s = s[:n-1]
	}
	var m Message
	m.Op, s = word(s, ' ')
	if m.Op == "" {
		return Message{}, ErrMalformed
	}
	for s != "" {
		var key string
		key, s = word(s, '=')
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil || key == "" || quoted[0] != '"' {
			return Message{}, ErrMalformed
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return Message{}, ErrMalformed
		}
		s = s[len(quoted):]
		if s != "" {
			if s[0] != ' ' || len(s) == 1 {
				return Message{}, ErrMalformed
			}
			s = s[1:]
		}
		m.Args = append(m.Args, Arg{key, value})
	}
	return m, nil
}

// word splits s at the first sep.
func word(s string, sep byte) (head, rest string) {
	for i := 0; i < len(s); i++ {
		if s[i] == sep {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
