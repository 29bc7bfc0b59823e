package frugal

import (
	"fmt"
	"strings"
)

// What a selector holds back for Tail, whatever the number of lines: no budget
// that makes sense shows more. Each line counts for its text and a bit.
const (
	maxTailBytes = 4 << 20
	lineOverhead = 64
)

// A selector passes on the lines that Options asks for.
type selector struct {
	o    Options
	next func(line)

	before []line // the last lines that did not match, for the next that does
	after  int    // lines still to pass since the last that matched
	apart  bool   // lines were left out since the last that passed
	passed int    // lines passed, before Tail
	lines  int    // the job's own lines among them, after Tail

	tail     []line
	tailSize int
}

func newSelector(o Options, next func(line)) *selector {
	if o.Grep == nil {
		o.Context = 0
	}
	o.Context = min(max(o.Context, 0), 1000)
	return &selector{o: o, next: next}
}

func (s *selector) match(text []byte) bool {
	return s.o.Grep == nil || s.o.Grep.Match(text) != s.o.Invert
}

// full tells whether Head lines have passed.
func (s *selector) full() bool { return s.o.Head > 0 && s.passed >= s.o.Head }

func (s *selector) add(l line) {
	switch {
	case l.matched:
		if s.apart && s.passed > 0 && s.o.Context > 0 {
			first := l
			if len(s.before) > 0 {
				first = s.before[0]
			}
			s.keep(line{start: first.start, text: "--", notice: true})
		}
		for _, b := range s.before {
			s.pass(b)
		}
		s.before = s.before[:0]
		s.pass(l)
		s.after, s.apart = s.o.Context, false
	case s.after > 0:
		s.after--
		s.pass(l)
	case s.o.Context > 0:
		if len(s.before) == s.o.Context {
			s.before = append(s.before[:0], s.before[1:]...)
			s.apart = true
		}
		s.before = append(s.before, l)
	}
}

func (s *selector) pass(l line) {
	s.passed++
	s.keep(l)
}

func (s *selector) keep(l line) {
	if s.o.Tail <= 0 {
		s.give(l)
		return
	}
	s.tail = append(s.tail, l)
	s.tailSize += len(l.text) + lineOverhead
	for len(s.tail) > s.o.Tail || s.tailSize > maxTailBytes {
		s.tailSize -= len(s.tail[0].text) + lineOverhead
		s.tail[0] = line{}
		s.tail = s.tail[1:]
	}
}

func (s *selector) give(l line) {
	if !l.notice {
		s.lines++
	}
	s.next(l)
}

// end passes on what Tail held back.
func (s *selector) end() {
	for _, l := range s.tail {
		s.give(l)
	}
	s.tail = nil
}

// A unit is text that is shown or elided as a whole: a line, or a line and its
// repetitions.
type unit struct {
	start int64
	text  string
	lines int
}

// A folder makes one unit of a run of equal lines.
type folder struct {
	next func(unit)

	any     bool
	current line
	count   int
}

func (f *folder) add(l line) {
	if f.any && f.current.text == l.text && !f.current.partial && !l.partial && !f.current.notice && !l.notice {
		f.count++
		return
	}
	f.flush(true)
	f.any, f.current, f.count = true, l, 1
}

func (f *folder) end() { f.flush(false) }

// flush passes on what is gathered. A partial line gets its newline only if
// something follows.
func (f *folder) flush(more bool) {
	if !f.any {
		return
	}
	u := unit{start: f.current.start, text: f.current.text, lines: f.count}
	if f.current.notice {
		u.lines = 0
	}
	if more || !f.current.partial {
		u.text += "\n"
	}
	if n := f.count - 1; n > 0 {
		times := "times"
		if n == 1 {
			times = "time"
		}
		marker := fmt.Sprintf("[last line repeated %d more %s]\n", n, times)
		if len(marker) < n*len(u.text) {
			u.text += marker
		} else {
			u.text = strings.Repeat(u.text, f.count)
		}
	}
	f.any = false
	f.next(u)
}
