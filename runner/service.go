package runner

import (
	"context"
	"io"
	"time"

	"berth/images"
	"berth/runner/logstore"
)

// Service is a session as its users see it: met by [Session] itself and by the
// client of package keeper. Jobs are named by handle, ID, or the end of an ID.
//
// Unless said otherwise errors are *[UnknownJobError], *[AmbiguousJobError],
// *[EndedError], an error of the engine, or the context's. A job that failed is
// never an error: its [Exit] says so.
type Service interface {
	// Info describes the session.
	Info(ctx context.Context) (Info, error)

	// Run begins a job and returns when its snapshot is taken, its image found
	// and its handle given. What takes longer until then, which is a pull alone,
	// is told to events, which may be nil; it is called during the call only.
	// A context that ends before that ends the beginning; later the job does
	// not depend on it.
	Run(ctx context.Context, spec Spec, events func(Event)) (Record, error)

	// List returns the records of all jobs, oldest first.
	List(ctx context.Context) ([]Record, error)

	// Get returns one job's record.
	Get(ctx context.Context, job string) (Record, error)

	// Log opens a job's output for reading.
	Log(ctx context.Context, job string) (*logstore.Reader, error)

	// Wait returns when the condition holds; see [WaitRequest].
	Wait(ctx context.Context, r WaitRequest) (WaitResult, error)

	// Signal sends a signal to every process of a running job, which otherwise
	// is a *[NotRunningError].
	Signal(ctx context.Context, job string, number int) error

	// Kill ends jobs and returns when nothing of them is left on the engine.
	// One that has ended already is fine.
	Kill(ctx context.Context, r KillRequest) ([]Record, error)

	// Exec runs a further command in a job's container and returns its exit
	// code. It returns when the command has ended.
	Exec(ctx context.Context, r ExecRequest, stdio ExecIO) (int, error)

	// End ends the session: all jobs at once, then everything it has but records
	// and logs.
	End(ctx context.Context, by string) error
}

// Event is something that happened while a job began.
type Event struct {
	Pull *images.Progress `json:"pull,omitempty"` // an image is being pulled
}

// KillRequest says which jobs to end.
type KillRequest struct {
	Jobs  []string      `json:"jobs,omitempty"`
	All   bool          `json:"all,omitempty"` // every job of the session instead
	By    string        `json:"by"`            // who asks, for the record
	Grace time.Duration `json:"grace"`         // between SIGTERM and SIGKILL
}

// WaitRequest says what to wait for: that one (Any) or all of the jobs meet
// Until, or have ended. With Any the result has only those that were there
// first.
type WaitRequest struct {
	Jobs  []string  `json:"jobs"`
	Any   bool      `json:"any,omitempty"`
	Until Condition `json:"until"`
}

// WaitResult has what the wait ended with, in the order of the request.
type WaitResult struct {
	Jobs []Waited `json:"jobs"`
}

// Waited is one job that a wait is over for.
type Waited struct {
	Record  Record `json:"record"`
	Matched string `json:"matched"` // the condition that held: as asked, or "exit"
}

// ExecRequest is a further command in a job's container. It runs as the job's
// user with the job's environment.
type ExecRequest struct {
	Job   string   `json:"job"`
	Argv  []string `json:"argv"`
	Env   []string `json:"env,omitempty"` // on top of the job's
	TTY   bool     `json:"tty,omitempty"`
	Stdin bool     `json:"stdin,omitempty"` // ExecIO.Stdin is connected
	Size  Size     `json:"size"`            // of the terminal at the beginning
}

// Size is that of a terminal, in cells.
type Size struct {
	Rows uint `json:"rows"`
	Cols uint `json:"cols"`
}

// ExecIO are the streams of an Exec. With a terminal all output is on Stdout.
// Exec closes none of them.
type ExecIO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size // nil if the terminal keeps its size
}

var _ Service = (*Session)(nil)
