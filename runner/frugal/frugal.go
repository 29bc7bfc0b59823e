// Package frugal turns the log of a job into text for programs and agents,
// which pay for every byte they read: valid UTF-8, no escape sequences, one
// state of a progress bar instead of ten thousand, repeated lines folded, long
// lines cut, and never a byte more than asked for.
//
//	res, err := frugal.Read(r, frugal.Options{Since: cursor, MaxBytes: 8 << 10})
//	cursor = res.Next
//
// Reading never takes anything away: the log stays as it is, and any cursor
// can be read again with other options. Memory is bounded by the budget, not
// by the size of the log.
package frugal

import (
	"regexp"

	"berth/runner/logstore"
)

// DefaultMaxBytes is the budget of a Read that names none.
const DefaultMaxBytes = 16 << 10

// MaxLine is how many bytes of one line are kept.
const MaxLine = 2 << 10

// Options say what to read. The zero value reads everything from the start
// into DefaultMaxBytes.
type Options struct {
	Since    int64           // cursor to read from
	Stream   logstore.Stream // 0: both
	Grep     *regexp.Regexp  // only lines that match, after cleaning; nil: all
	Invert   bool            // only lines that do not match Grep
	Context  int             // lines kept around each match of Grep
	Head     int             // >0: stop after this many lines (a few more where two streams are in mid-line)
	Tail     int             // >0: only the last lines, of some MiB at most; with Head: the last of those
	MaxBytes int             // exact upper bound of len(Result.Text); <= 0: DefaultMaxBytes
}

// Result is what a Read found.
type Result struct {
	// Text is the cleaned output. Its last line has no newline if the job has
	// not written one yet, so that the texts of successive reads join up.
	Text string

	Next   int64 // cursor behind everything looked at, matching or not
	Bytes  int64 // raw bytes looked at: Next - Since
	Lines  int   // lines of the log that passed the filters, elided ones included
	Size   int64 // end of the log at that time: wait for more than this, as Next may stay behind it
	Closed bool  // the log is complete: there will be nothing past Next

	Missing int64 // bytes that the log itself does not have any more (gaps)

	// What the budget left out: bytes of text, lines, and the cursor from
	// which the same options and a larger budget give it.
	Elided      int64
	ElidedLines int
	ElidedFrom  int64
}

// maxTail bounds Options.Tail.
const maxTail = 1 << 20

// Read gives the output from o.Since on. A cursor outside the log is a
// *logstore.CursorError.
func Read(r *logstore.Reader, o Options) (Result, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	from := o.Since
	if o.Tail > 0 && o.Head <= 0 && o.Grep == nil {
		// More than enough, as lines of two streams may lie across each other.
		tail, err := r.TailLines(2*min(o.Tail, maxTail)+16, o.Stream)
		if err != nil {
			return Result{}, err
		}
		from = max(from, tail)
	}
	info, err := r.Stat()
	if err != nil {
		return Result{}, err
	}
	if o.Since < 0 || o.Since > info.Size {
		return Result{}, &logstore.CursorError{Cursor: o.Since, Size: info.Size}
	}

	b := newBudget(o.MaxBytes)
	f := &folder{next: b.add}
	sel := newSelector(o, f.add)
	a := &assembler{match: sel.match, emit: sel.add}
	for i := range a.streams {
		a.streams[i].keep = MaxLine
		if o.Grep != nil {
			a.streams[i].keep = maxGrep
		}
	}

	res := Result{Next: info.Size, Size: info.Size, Closed: info.Closed}
	for c, err := range r.Chunks(from, info.Size, o.Stream) {
		if err != nil {
			return Result{}, err
		}
		res.Missing += c.Gap
		next := a.chunk(c, sel.full)
		if sel.full() {
			res.Next = next
			break
		}
	}
	res.Closed = info.Closed && res.Next == info.Size
	res.Next = a.settle(res.Next, !res.Closed)
	a.flush(true)
	sel.end()
	f.end()
	b.result(&res)
	res.Lines = sel.lines
	res.Bytes = res.Next - o.Since
	return res, nil
}
