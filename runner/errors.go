package runner

import (
	"fmt"
	"strings"
)

// InvalidError is bad input. Its text is one line; Hint says what to write.
type InvalidError struct{ What, Value, Why, Hint string }

func (e *InvalidError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("bad %s: %s", e.What, e.Why)
	}
	return fmt.Sprintf("bad %s %q: %s", e.What, e.Value, e.Why)
}

// UnknownJobError says that no job goes by a name.
type UnknownJobError struct {
	Job  string
	Near []string // handles that look alike
}

func (e *UnknownJobError) Error() string { return fmt.Sprintf("no job %q", e.Job) }

// AmbiguousJobError says that several jobs go by a name.
type AmbiguousJobError struct {
	Job  string
	Jobs []Record
}

func (e *AmbiguousJobError) Error() string {
	ids := make([]string, len(e.Jobs))
	for i, r := range e.Jobs {
		ids[i] = fmt.Sprintf("%s (%s in session %s)", r.ID, r.Handle, r.Session)
	}
	return fmt.Sprintf("%q could be any of %s", e.Job, strings.Join(ids, ", "))
}

// NameTakenError says that a running job of the session has a name.
type NameTakenError struct{ Name string }

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("a job named %q is already running in this session", e.Name)
}

// PortTakenError says that a port of the host that was asked for is in use.
type PortTakenError struct{ Port PortSpec }

func (e *PortTakenError) Error() string {
	return fmt.Sprintf("port %d of 127.0.0.1 is already in use", e.Port.Host)
}

// NotRunningError says that something needs a running container and the job
// has none.
type NotRunningError struct{ Record Record }

func (e *NotRunningError) Error() string {
	if e.Record.Exit != nil {
		return fmt.Sprintf("job %s has ended: %s", e.Record.Handle, e.Record.Exit)
	}
	return fmt.Sprintf("job %s has not started yet", e.Record.Handle)
}

// SilentError says that the process that holds a session does not answer.
type SilentError struct {
	Session string
	PID     int
}

func (e *SilentError) Error() string {
	return fmt.Sprintf("session %s is held by process %d, which does not answer", e.Session, e.PID)
}

// EndedError says that a session has ended or is about to.
type EndedError struct{ Session string }

func (e *EndedError) Error() string { return fmt.Sprintf("session %s has ended", e.Session) }
