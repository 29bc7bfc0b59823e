package logstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"
)

const (
	maxChunk  = 64 << 10
	readAhead = 256 << 10 // bytes per step of Chunks
	pollEvery = 25 * time.Millisecond
)

// A Reader reads a log. It holds no file open and needs no closing; its
// methods are safe for concurrent use.
type Reader struct {
	dir string
	w   *Writer // nil unless the log is written by this process
}

// Open gives a Reader of the log in dir, which may be still written by another
// process (that output shows up within about 50 ms), complete, or left behind
// by a process that died. Files of others in dir are ignored. The error is
// fs.ErrNotExist where no log was ever started, and ErrFormat for what is not
// one of ours.
func Open(dir string) (*Reader, error) {
	if _, err := readMeta(dir); err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	return &Reader{dir: dir}, nil
}

// Seal marks the log in dir as complete, for a writer that died before its
// Close. The caller knows that it is dead. Sealing a complete log does nothing.
func Seal(dir string) error {
	r, err := Open(dir)
	if err != nil {
		return err
	}
	info, err := r.Stat()
	if err != nil || info.Closed {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, metaName), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("seal log: %w", err)
	}
	_, err = f.WriteAt(encodeState(stateClosed, info.Size), metaIdent)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("seal log %s: %w", dir, err)
	}
	return nil
}

// A view is what a log consists of at one moment.
type view struct {
	Info
	bases []int64 // where its segments start, in order
}

func (r *Reader) view() (view, error) {
	if r.w != nil {
		r.w.Size() // writes out what is gathered
	}
	var v view
	err := r.again(func() (err error) {
		// meta before the segments: bytes that meta knows of and the segments,
		// looked at later, do not have are missing for good.
		if v.Info, err = readMeta(r.dir); err != nil {
			return err
		}
		if v.bases, err = listSegments(r.dir); err != nil || len(v.bases) == 0 {
			return err
		}
		last, err := openSegment(r.dir, v.bases[len(v.bases)-1])
		if err != nil {
			return err
		}
		last.close()
		v.Size = max(v.Size, last.end)
		return nil
	})
	if err != nil {
		return view{}, fmt.Errorf("read log %s: %w", r.dir, err)
	}
	return v, nil
}

// again repeats f while the segment that it wants has just been dropped by the
// writer: it finds a newer one the next time.
func (r *Reader) again(f func() error) (err error) {
	for range 1000 {
		if err = f(); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, merr := readMeta(r.dir); merr != nil {
			return err // it is the whole log that is gone
		}
	}
	return err
}

func listSegments(dir string) ([]int64, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, name := range names {
		if base, ok := parseIndexName(name); ok {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

// Stat gives the size of the log and whether it is complete.
func (r *Reader) Stat() (Info, error) {
	v, err := r.view()
	return v.Info, err
}

// ReadFrom returns what is there from cursor on, at most max bytes of data (at
// least one chunk, if there is anything), only of stream s unless s is 0. next
// is the cursor to go on from: past everything looked at, other streams
// included; equal to cursor when there is nothing more yet. A cursor outside
// the log is a *CursorError.
func (r *Reader) ReadFrom(cursor int64, max int, s Stream) (chunks []Chunk, next int64, err error) {
	return r.read(query{cursor: cursor, end: -1, max: max, stream: s})
}

// Chunks ranges over the log from cursor to end (< 0: the size at the time of
// the call), of stream s alone unless s is 0. Chunks are at most 64 KiB; their
// Data is valid until the next step. It ends after the first error.
func (r *Reader) Chunks(cursor, end int64, s Stream) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		if end < 0 {
			info, err := r.Stat()
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			end = info.Size
		}
		buf := make([]byte, max(0, min(readAhead, end-cursor)))
		for {
			chunks, next, err := r.read(query{cursor: cursor, end: end, max: readAhead, stream: s, buf: buf})
			for _, c := range chunks {
				if !yield(c, nil) {
					return
				}
			}
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			if next == cursor || next >= end {
				return
			}
			cursor = next
		}
	}
}

// A query is one read; it collects chunks until it reaches end or has max
// bytes of data.
type query struct {
	cursor, end int64 // end < 0: that of the log
	max         int
	stream      Stream
	buf         []byte // where data goes as long as it has room

	left   int
	chunks []Chunk
}

func (r *Reader) read(q query) ([]Chunk, int64, error) {
	from := q.cursor
	q.left = max(q.max, 1)
	err := r.again(func() error {
		v, err := r.view()
		if err != nil {
			return err
		}
		if from < 0 || from > v.Size {
			return &CursorError{Cursor: from, Size: v.Size}
		}
		end := v.Size
		if q.end >= 0 {
			end = min(end, q.end)
		}
		for q.cursor < end && q.left > 0 {
			if err := q.step(r.dir, v.bases, end); err != nil {
				return err
			}
		}
		return nil
	})
	var outside *CursorError
	if err != nil && !errors.As(err, &outside) {
		err = fmt.Errorf("read log %s: %w", r.dir, err)
	}
	return q.chunks, q.cursor, err
}

// step reads from the segment that the cursor is in, or passes the gap behind
// it.
func (q *query) step(dir string, bases []int64, end int64) error {
	i := sort.Search(len(bases), func(i int) bool { return bases[i] > q.cursor }) - 1
	upTo, reason := end, Disk
	if i+1 < len(bases) {
		upTo = min(end, bases[i+1])
		if i == 0 && bases[0] == 0 {
			reason = Limit
		}
	}
	if i >= 0 {
		seg, err := openSegment(dir, bases[i])
		if err != nil {
			return err
		}
		defer seg.close()
		if q.cursor < seg.end {
			return q.segment(seg, min(seg.end, upTo))
		}
	}
	q.missing(upTo, reason)
	return nil
}

func (q *query) missing(upTo int64, reason Reason) {
	q.chunks = append(q.chunks, Chunk{Offset: q.cursor, Gap: upTo - q.cursor, Reason: reason})
	q.cursor = upTo
}

const recordBatch = 128

func (q *query) segment(seg *segment, end int64) error {
	i, err := seg.search(func(rec record) bool { return rec.end > q.cursor })
	if err != nil {
		return err
	}
	for i < seg.n && q.cursor < end && q.left > 0 {
		recs, err := seg.records(i-1, min(recordBatch, seg.n-i+1))
		if err != nil {
			return err
		}
		for k := 1; k < len(recs) && q.cursor < end && q.left > 0; k++ {
			if err := q.run(seg, recs[k], min(recs[k].end, end)); err != nil {
				return err
			}
		}
		i += int64(len(recs) - 1)
	}
	return nil
}

// run takes what rec describes, from the cursor up to end.
func (q *query) run(seg *segment, rec record, end int64) error {
	if rec.stream == 0 {
		q.missing(end, Disk)
		return nil
	}
	if q.stream != 0 && rec.stream != q.stream {
		q.cursor = end
		return nil
	}
	for q.cursor < end && q.left > 0 {
		n := int(min(end-q.cursor, int64(q.left), maxChunk))
		if len(q.buf) < n {
			q.buf = make([]byte, max(n, min(q.left, maxChunk)))
		}
		b := q.buf[:n:n]
		if _, err := seg.log.ReadAt(b, rec.pos-(rec.end-q.cursor)); err != nil {
			return err
		}
		q.buf = q.buf[n:]
		c := rec.chunk(q.cursor)
		c.Data = b
		q.chunks = append(q.chunks, c)
		q.cursor += int64(n)
		q.left -= n
	}
	return nil
}

// Wait returns when there is something past cursor (more is true) or the log
// is complete and cursor at its end (more is false). The error is ctx's, or
// that of reading.
func (r *Reader) Wait(ctx context.Context, cursor int64) (more bool, err error) {
	if r.w != nil {
		for {
			changed, more := r.w.wait(cursor)
			if changed == nil {
				return more, nil
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		info, err := r.Stat()
		if err != nil {
			return false, err
		}
		if info.Size > cursor || info.Closed {
			return info.Size > cursor, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
