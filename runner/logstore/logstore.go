// Package logstore keeps the output of one job in a directory: the raw bytes
// of stdout and stderr in order of arrival, and which stream and time each
// came from.
//
// A cursor is a byte offset in the whole output, both streams together, bytes
// that were dropped included. It means the same bytes for ever: reads repeat
// exactly, survive restarts of whoever reads and writes, and cost O(bytes
// read) however long the log is.
//
//	w, err := logstore.Create(dir, 0)
//	w.Append(logstore.Stdout, time.Now(), []byte("hello\n"))
//	w.Close()
//
//	r, err := logstore.Open(dir) // any process, also while the job runs
//	for c, err := range r.Chunks(0, -1, 0) { ... }
//
// Disk first, readers after: a Reader reads files and holds nothing of the
// Writer, so a slow or stopped reader never holds up a job. Nor does a full
// disk: what could not be written becomes a gap with a size, and the job goes
// on. Past its limit a log keeps its first and its last half; what was dropped
// between them is a gap too.
package logstore

import (
	"errors"
	"fmt"
	"time"
)

// DefaultLimit is how many bytes of output a log keeps unless told otherwise.
const DefaultLimit = 256 << 20

// Stream says where bytes came from. The zero value stands for both wherever a
// filter is asked for.
type Stream uint8

const (
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	switch s {
	case 0:
		return "both"
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	}
	return fmt.Sprintf("stream %d", uint8(s))
}

// Reason says why bytes are missing from a log.
type Reason uint8

const (
	// Limit: the log was at its limit and dropped its middle.
	Limit Reason = 1
	// Disk: the disk did not take the bytes (it was full), or lost them.
	Disk Reason = 2
)

func (r Reason) String() string {
	switch r {
	case Limit:
		return "limit"
	case Disk:
		return "disk"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// A Chunk is a piece of output that arrived on one stream at one time, or a
// gap.
type Chunk struct {
	Offset int64     // cursor of its first byte
	Stream Stream    // 0 in a gap
	Time   time.Time // arrival of the run it is part of, to about 5 ms; zero in a gap
	Data   []byte    // nil in a gap

	Gap    int64 // >0: this many bytes are missing from Offset on
	Reason Reason
}

// End is the cursor behind the chunk.
func (c Chunk) End() int64 { return c.Offset + int64(len(c.Data)) + c.Gap }

// Info is the state of a log at one moment.
type Info struct {
	Size   int64 // end offset: bytes that arrived so far, gaps included
	Closed bool  // nothing will be added; Size is final
}

// ErrFormat is returned by Open and Seal for a directory that holds something
// else than a log, or a log of a version that this program does not know.
var ErrFormat = errors.New("not a log that this version can read")

// A CursorError is returned for a cursor that is negative or past the end.
type CursorError struct {
	Cursor, Size int64
}

func (e *CursorError) Error() string {
	return fmt.Sprintf("cursor %d is outside the log, which ends at %d", e.Cursor, e.Size)
}
