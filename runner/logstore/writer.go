package logstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// mergeWithin is how long output of one stream is gathered into one record,
	// so the resolution of times, and the most that a kill of the writer loses.
	mergeWithin = 5 * time.Millisecond
	// Appends of directSize and more are worth a record each and are not gathered.
	directSize = 4 << 10
	gatherMax  = 16 << 10
)

// A Writer is the one writer of a log. Its methods are safe for concurrent use.
type Writer struct {
	dir   string
	limit int64

	mu       sync.Mutex
	meta     *os.File
	log, idx *os.File // segment being written; nil after rotate failed
	size     int64    // bytes in log
	idxSize  int64    // bytes in idx
	room     int64    // what either may hold
	tails    []int64  // bases of the tail segments, oldest first

	end int64 // cursor behind what the index has
	gap int64 // bytes after end that the disk did not take

	// Output gathered, not yet written; it follows end and gap.
	pending       []byte
	pendingStream Stream
	pendingTime   time.Time
	lastAppend    time.Time
	timer         *time.Timer // flushes pending; it may fire after Close, which finds nothing to do

	changed  chan struct{} // closed when there is more to read; nil if nobody waits
	closed   bool
	closeErr error
}

// Create starts a log in dir, which exists and holds no log yet (else the
// error is fs.ErrExist). limit is how many bytes of output are kept; <= 0
// means DefaultLimit. The caller closes the Writer.
func Create(dir string, limit int64) (*Writer, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	w := &Writer{dir: dir, limit: max(limit, minLimit)}
	if err := w.create(); err != nil {
		w.closeFiles()
		return nil, fmt.Errorf("create log: %w", err)
	}
	return w, nil
}

func (w *Writer) create() (err error) {
	if w.meta, err = os.OpenFile(filepath.Join(w.dir, metaName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return err
	}
	if _, err = w.meta.Write(append(encodeIdent(w.limit), encodeState(stateOpen, 0)...)); err != nil {
		return err
	}
	return w.openFiles(0, w.limit/2)
}

// Append adds p, which arrived on s (Stdout or Stderr) at t. It never fails and never waits for a
// reader; the caller may reuse p. What the disk does not take is counted as a
// gap. After Close it does nothing.
func (w *Writer) Append(s Stream, t time.Time, p []byte) {
	if s != Stderr {
		s = Stdout
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(p) == 0 {
		return
	}
	quiet := !within(w.lastAppend, t)
	w.lastAppend = t
	if len(w.pending) > 0 && (s != w.pendingStream || !within(w.pendingTime, t) || len(w.pending)+len(p) > gatherMax) {
		w.flush()
	}
	if len(w.pending) == 0 {
		// What comes after a pause may be a prompt: it does not wait for more.
		if quiet || len(p) >= directSize {
			w.write(s, t, p)
			w.notify()
			return
		}
		w.pendingStream, w.pendingTime = s, t
		if w.timer == nil {
			w.timer = time.AfterFunc(mergeWithin, w.flushGathered)
		} else {
			w.timer.Reset(mergeWithin)
		}
	}
	w.pending = append(w.pending, p...)
}

// within tells whether b is so shortly after a that both share a record. A
// clock that went back starts a new one.
func within(a, b time.Time) bool {
	d := b.Sub(a)
	return d >= 0 && d < mergeWithin
}

func (w *Writer) flushGathered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
}

// flush writes what is gathered. The caller holds mu.
func (w *Writer) flush() {
	if len(w.pending) == 0 {
		return
	}
	w.write(w.pendingStream, w.pendingTime, w.pending)
	w.pending = w.pending[:0]
	w.notify()
}

// write puts p into as many segments as it takes; what does not get to the
// disk is added to gap. Bytes go first and the record that makes them output
// second; a failure in between leaves bytes that the next write overwrites.
func (w *Writer) write(s Stream, t time.Time, p []byte) {
	for len(p) > 0 {
		if w.log == nil || w.size >= w.room || w.idxSize >= w.room {
			if err := w.rotate(); err != nil {
				break
			}
		}
		n, err := w.log.WriteAt(p[:min(int64(len(p)), w.room-w.size)], w.size)
		if n > 0 {
			if rerr := w.record(s, t, int64(n)); rerr != nil {
				break
			}
			p = p[n:]
		}
		if err != nil {
			break
		}
	}
	if len(p) > 0 {
		w.gap += int64(len(p))
		// So that readers learn of it while it lasts. If this fails too, they
		// learn of it when the disk is back.
		_ = w.writeState(stateOpen)
	}
}

// record makes n bytes that were written behind size part of the log, and the
// gap before them, if there is one.
func (w *Writer) record(s Stream, t time.Time, n int64) error {
	b := make([]byte, 0, 2*recordSize)
	if w.gap > 0 {
		b = record{end: w.end + w.gap, pos: w.size}.append(b)
	}
	b = record{end: w.end + w.gap + n, pos: w.size + n, time: t.UnixNano(), stream: s}.append(b)
	if _, err := w.idx.WriteAt(b, w.idxSize); err != nil {
		return err
	}
	w.end += w.gap + n
	w.gap = 0
	w.size += n
	w.idxSize += int64(len(b))
	return nil
}

// rotate goes on to a new tail segment and drops the oldest if they are too
// many. An index counts like data, which bounds the log of a job that writes
// single bytes far apart.
func (w *Writer) rotate() error {
	w.closeSegment()
	if len(w.tails) >= tailFiles {
		// The index first: a segment is what has an index.
		name := filepath.Join(w.dir, segmentName(w.tails[0]))
		if err := errors.Join(os.Remove(name+".idx"), os.Remove(name+".log")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		w.tails = w.tails[1:]
	}
	if err := w.openFiles(w.end, w.limit/2/tailFiles); err != nil {
		return err
	}
	w.tails = append(w.tails, w.end)
	return nil
}

func (w *Writer) openFiles(base, room int64) error {
	name := filepath.Join(w.dir, segmentName(base))
	const flags = os.O_RDWR | os.O_CREATE | os.O_TRUNC
	log, err := os.OpenFile(name+".log", flags, 0o600)
	if err != nil {
		return err
	}
	idx, err := os.OpenFile(name+".idx", flags, 0o600)
	if err != nil {
		return errors.Join(err, log.Close(), os.Remove(name+".log"))
	}
	w.log, w.idx, w.size, w.idxSize, w.room = log, idx, 0, 0, room
	return nil
}

// notify wakes those who wait for more. The caller holds mu.
func (w *Writer) notify() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// wait returns a channel that is closed when something changes, or nil if
// there is already something past cursor or never will be.
func (w *Writer) wait(cursor int64) (changed <-chan struct{}, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	if w.end+w.gap > cursor || w.closed {
		return nil, w.end+w.gap > cursor
	}
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed, false
}

// Size is the end offset: the bytes appended so far. Readers in any process
// can read up to it.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.end + w.gap
}

// Reader returns a Reader of this log that sees each Append at once and whose
// Wait does not poll. It stays valid after Close.
func (w *Writer) Reader() *Reader { return &Reader{dir: w.dir, w: w} }

// Close writes what is left and marks the log as complete. A second call does
// nothing and returns what the first one did.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.closeErr
	}
	w.flush()
	w.closed = true
	w.pending = nil
	if w.timer != nil {
		w.timer.Stop()
	}
	if err := errors.Join(w.writeState(stateClosed), w.closeFiles()); err != nil {
		w.closeErr = fmt.Errorf("close log: %w", err)
	}
	w.notify()
	return w.closeErr
}

func (w *Writer) writeState(state uint32) error {
	_, err := w.meta.WriteAt(encodeState(state, w.end+w.gap), metaIdent)
	return err
}

func (w *Writer) closeFiles() error {
	err := w.closeSegment()
	if w.meta != nil {
		err = errors.Join(err, w.meta.Close())
	}
	return err
}

func (w *Writer) closeSegment() error {
	if w.log == nil {
		return nil
	}
	err := errors.Join(w.log.Close(), w.idx.Close())
	w.log, w.idx = nil, nil
	return err
}
