package frugal

import (
	"fmt"
	"unicode/utf8"

	"berth/runner/logstore"
)

// A line is one cleaned line of one stream.
type line struct {
	start   int64  // cursor of its first visible byte
	text    string // without newline, cut to MaxLine
	partial bool   // the job has not finished it yet
	notice  bool   // it is ours and not the job's
	matched bool   // it passes Grep
}

const (
	// What is kept of a line for Grep to look at.
	maxGrep = 64 << 10
	// How much of one stream waits for the other to finish a line it began
	// before; then that line is cut in two (it is a prompt, or a progress bar).
	maxWaiting      = 64 << 10
	maxWaitingLines = 1000
)

// An assembler makes lines of chunks, each stream on its own, in the order in
// which the lines began.
type assembler struct {
	streams [2]cleaner
	seen    [2]int64 // cursor behind the last byte of each
	waiting []line   // of one stream, complete; the other began a line before them
	size    int      // bytes in waiting
	match   func(text []byte) bool
	emit    func(l line)
}

func (a *assembler) chunk(c logstore.Chunk, stop func() bool) (next int64) {
	if c.Gap > 0 {
		a.settle(c.Offset, false)
		a.flush(false)
		what := "the log was at its limit"
		if c.Reason == logstore.Disk {
			what = "the disk did not take them"
		}
		a.emit(line{start: c.Offset, text: fmt.Sprintf("[%d bytes missing: %s]", c.Gap, what), notice: true, matched: true})
		return c.End()
	}
	s := int(c.Stream) - 1
	for n := 0; n < len(c.Data); {
		k, done := a.streams[s].feed(c.Data[n:], c.Offset+int64(n))
		n += k
		a.seen[s] = c.Offset + int64(n)
		if done {
			a.complete(s, a.seen[s]-1)
			if stop() {
				return a.seen[s]
			}
		}
	}
	return c.End()
}

// complete takes the finished line of stream s, whose newline is at end.
func (a *assembler) complete(s int, end int64) {
	cl, other := &a.streams[s], &a.streams[1-s]
	start := end
	if cl.begun {
		start = cl.start
	}
	if !other.begun || other.start > start {
		a.emit(a.line(s, start))
		a.release()
		return
	}
	l := a.line(s, start)
	a.waiting = append(a.waiting, l)
	a.size += len(l.text)
	if a.size > maxWaiting || len(a.waiting) > maxWaitingLines {
		a.emit(a.line(1-s, other.start))
		a.release()
	}
}

// line takes the current line of stream s.
func (a *assembler) line(s int, start int64) line {
	cl := &a.streams[s]
	l := line{start: start, matched: a.match(cl.text), text: lineText(cl.text, cl.dropped)}
	cl.reset()
	return l
}

func (a *assembler) release() {
	for _, l := range a.waiting {
		a.emit(l)
	}
	a.waiting, a.size = a.waiting[:0], 0
}

// flush emits what is there of unfinished lines; partial says that what comes
// later may belong to them.
func (a *assembler) flush(partial bool) {
	first, second := 0, 1
	if a.streams[1].begun && (!a.streams[0].begun || a.streams[1].start < a.streams[0].start) {
		first, second = 1, 0
	}
	for _, s := range []int{first, second} {
		if s == second {
			a.release()
		}
		if cl := &a.streams[s]; len(cl.text) > 0 || cl.dropped > 0 {
			l := a.line(s, cl.start)
			l.partial = partial
			a.emit(l)
		}
	}
}

// settle decides what becomes of sequences and characters that are cut off at
// end, and returns the cursor to go on from: before them, if more may come. What
// the other stream wrote behind one would be read twice, so then it is given up.
func (a *assembler) settle(end int64, more bool) int64 {
	next := end
	for s := range a.streams {
		cl := &a.streams[s]
		if cl.unfinished() && more && a.seen[1-s] <= cl.seqStart {
			next = cl.seqStart
		} else {
			cl.finish()
		}
	}
	return next
}

// lineText is a cleaned line cut to MaxLine, with what is gone if any is.
func lineText(text []byte, dropped int64) string {
	n := len(text)
	if n > MaxLine {
		for n = MaxLine; !utf8.RuneStart(text[n]); n-- {
		}
		dropped += int64(len(text) - n)
	}
	if dropped == 0 {
		return string(text)
	}
	return fmt.Sprintf("%s [%d bytes cut]", text[:n], dropped)
}
