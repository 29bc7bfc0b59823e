package control

import (
	"strconv"
	"time"
)

// Start tells init what to run. It travels here and not in the container's
// configuration, so that a container can be made before its command is known
// and no secret shows up in `docker inspect`.
type Start struct {
	Nonce   string // marks init's frames; see NewNonce in the runner
	Argv    []string
	Env     []string // the whole environment, KEY=VALUE
	Dir     string   // working directory, absolute
	Timeout time.Duration
	Grace   time.Duration // between SIGTERM and SIGKILL when the timeout strikes
	Ports   []Port
}

// Port is a TCP port of the job that is reachable from outside: init listens
// on Private, which the engine publishes, and connects each caller with the
// program on Port.
type Port struct{ Port, Private int }

// Message encodes s.
func (s Start) Message() Message {
	m := Message{Op: OpStart}.
		Add("nonce", s.Nonce).
		Add("dir", s.Dir).
		AddInt("timeout", int((s.Timeout+time.Millisecond-1).Milliseconds())). // 0 would be none
		AddInt("grace", int(s.Grace.Milliseconds()))
	for _, a := range s.Argv {
		m = m.Add("arg", a)
	}
	for _, e := range s.Env {
		m = m.Add("env", e)
	}
	for _, p := range s.Ports {
		m = m.Add("port", strconv.Itoa(p.Port)+":"+strconv.Itoa(p.Private))
	}
	return m
}

// ParseStart decodes what Start.Message encoded.
func ParseStart(m Message) (Start, error) {
	s := Start{
		Nonce:   m.Get("nonce"),
		Argv:    m.All("arg"),
		Env:     m.All("env"),
		Dir:     m.Get("dir"),
		Timeout: time.Duration(m.Int("timeout")) * time.Millisecond,
		Grace:   time.Duration(m.Int("grace")) * time.Millisecond,
	}
	for _, p := range m.All("port") {
		port, private := word(p, ':')
		a, err1 := strconv.Atoi(port)
		b, err2 := strconv.Atoi(private)
		if err1 != nil || err2 != nil {
			return Start{}, ErrMalformed
		}
		s.Ports = append(s.Ports, Port{a, b})
	}
	if m.Op != OpStart || s.Nonce == "" || len(s.Argv) == 0 {
		return Start{}, ErrMalformed
	}
	return s, nil
}

// Reasons that init gives for an end. The runner knows more: those that only
// the keeper can see.
const (
	ReasonExited      = "exited"
	ReasonKilled      = "killed"
	ReasonTimeout     = "timeout"
	ReasonOOM         = "oom"
	ReasonStartFailed = "start_failed"
)

// Exited is how a job ended, as init saw it.
type Exited struct {
	Code   int    // as a shell would give it: 128+n when a signal ended the job
	Signal int    // the signal that ended the main process, or 0
	Reason string // one of the Reason constants
	Error  string // for ReasonStartFailed, what failed
}

// Message encodes e.
func (e Exited) Message() Message {
	return Message{Op: OpExited}.
		AddInt("code", e.Code).
		AddInt("signal", e.Signal).
		Add("reason", e.Reason).
		Add("error", e.Error)
}

// ParseExited decodes what Exited.Message encoded.
func ParseExited(m Message) Exited {
	return Exited{
		Code:   m.Int("code"),
		Signal: m.Int("signal"),
		Reason: m.Get("reason"),
		Error:  m.Get("error"),
	}
}
