package runner

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/worktree"
)

// State is where a job is in its life.
type State string

// The states, in order. Every job reaches Ended.
const (
	Preparing State = "preparing" // its files and container are being made
	Running   State = "running"   // its command runs
	Ended     State = "ended"     // Exit says how
)

// Reason says why a job ended.
type Reason string

// The reasons.
const (
	ReasonExited      Reason = "exited"       // by itself
	ReasonKilled      Reason = "killed"       // somebody asked for it: Exit.By
	ReasonTimeout     Reason = "timeout"      // its time was up
	ReasonOOM         Reason = "oom"          // the kernel killed it for want of memory
	ReasonLost        Reason = "lost"         // the engine or the container vanished
	ReasonStartFailed Reason = "start_failed" // it never ran
)

// Exit is how a job ended.
type Exit struct {
	Reason Reason `json:"reason"`
	Code   int    `json:"code"`             // the command's own, 128+n for signal n; 125 to 127 if it never ran
	Signal int    `json:"signal,omitempty"` // the signal that ended the command
	By     string `json:"by,omitempty"`     // for ReasonKilled, who asked
	Error  string `json:"error,omitempty"`  // one line, for ReasonLost and ReasonStartFailed
	Hint   string `json:"hint,omitempty"`   // one line: what to do about Error
}

// OK tells whether the job did what it was to do.
func (e Exit) OK() bool { return e.Reason == ReasonExited && e.Code == 0 }

// Status is the exit status with which a waiting command hands e on: the job's
// code, or what the reason stands for.
func (e Exit) Status() int {
	switch {
	case e.Reason == ReasonTimeout:
		return 124
	case e.Reason == ReasonLost:
		return 125
	case e.Code == 0 && e.Reason != ReasonExited:
		return 128 + 15 // it was ended by us and took that as a success
	}
	return e.Code
}

// String is for people: "exit 1", "killed by … (exit 143)".
func (e Exit) String() string {
	switch e.Reason {
	case ReasonExited:
		return fmt.Sprintf("exit %d", e.Code)
	case ReasonKilled:
		return fmt.Sprintf("killed by %s (exit %d)", e.By, e.Code)
	case ReasonStartFailed, ReasonLost:
		return fmt.Sprintf("%s: %s", strings.ReplaceAll(string(e.Reason), "_", " "), e.Error)
	}
	return fmt.Sprintf("%s (exit %d)", e.Reason, e.Code)
}

// Port is a published port of a job.
type Port struct {
	Port  int    `json:"port"`           // in the container
	Proto string `json:"proto"`          // tcp or udp
	Host  string `json:"host,omitempty"` // 127.0.0.1:PORT; "" before the container has started
}

// Record is what is known of a job. It is kept beside the job's log, and
// readable when the session has ended.
type Record struct {
	ID        string            `json:"id"`     // a ULID
	Handle    string            `json:"handle"` // short name, unique among the session's running jobs
	Session   string            `json:"session"`
	Command   []string          `json:"command"`
	Repo      string            `json:"repo,omitempty"` // top of the user's working tree; "" if there is none
	Dir       string            `json:"dir"`
	Form      string            `json:"form"`                // how its files came about: overlay, plain or live
	From      string            `json:"from,omitempty"`      // ID of the ended job whose files it goes on with
	Workspace string            `json:"workspace,omitempty"` // name of the files that it shares
	Snapshot  worktree.Snapshot `json:"snapshot,omitzero"`
	Root      bool              `json:"root,omitempty"` // it runs as root
	Image     string            `json:"image"`
	ImageID   string            `json:"image_id"`
	Digest    string            `json:"digest,omitempty"` // of the image in its registry
	Container string            `json:"container,omitempty"`
	Ports     []Port            `json:"ports,omitempty"`
	Listening []int             `json:"listening,omitempty"` // TCP ports the job listens on now, sorted
	Timeout   time.Duration     `json:"timeout,omitempty"`   // nanoseconds
	Keep      bool              `json:"keep,omitempty"`
	State     State             `json:"state"`
	Gone      bool              `json:"gone,omitempty"` // ended, and the container is removed
	Created   time.Time         `json:"created"`
	Started   time.Time         `json:"started,omitzero"`
	Ended     time.Time         `json:"ended,omitzero"`
	Exit      *Exit             `json:"exit,omitempty"`     // nil before State is Ended
	Delivery  *Delivery         `json:"delivery,omitempty"` // what became of Spec.Apply and Spec.Branch
	Dirname   string            `json:"-"`                  // the job's directory
}

// Runtime is how long the command has run, up to now if it still does.
func (r Record) Runtime(now time.Time) time.Duration {
	switch {
	case r.Started.IsZero():
		return 0
	case r.Ended.IsZero():
		return now.Sub(r.Started)
	}
	return r.Ended.Sub(r.Started)
}

// Line is the command as one would type it.
func (r Record) Line() string {
	if len(r.Command) == 3 && r.Command[0] == "/bin/sh" && r.Command[1] == "-c" {
		return r.Command[2]
	}
	words := make([]string, len(r.Command))
	for i, w := range r.Command {
		if words[i] = w; w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// LogDir is where the job's log is; see package logstore.
func (r Record) LogDir() string { return filepath.Join(r.Dirname, "log") }

const recordFile = "record.json"

func saveRecord(r Record) error {
	r.Listening = nil // of the moment
	return writeJSON(filepath.Join(r.Dirname, recordFile), r)
}

// loadRecord reads the record in a job's directory. Since records are replaced
// whole, one that cannot be read was damaged by others.
func loadRecord(dir string) (Record, error) {
	var r Record
	if err := readJSON(filepath.Join(dir, recordFile), &r); err != nil {
		return Record{}, err
	}
	r.Dirname = dir
	return r, nil
}

// writeJSON replaces a file as a whole: a reader sees the old one or the new.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
