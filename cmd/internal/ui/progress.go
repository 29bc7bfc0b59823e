package ui

import (
	"fmt"
	"io"
	"time"
)

// plainEvery is the pause between lines of progress where they stay.
const plainEvery = 3 * time.Second

// Progress is one line that tells how far something has come: redrawn in place
// on a terminal, written anew every few seconds elsewhere. It is used by one
// goroutine.
type Progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	last     time.Time
	drawn    bool
}

// NewProgress makes a progress line on w.
func NewProgress(w io.Writer, terminal bool, now func() time.Time) *Progress {
	return &Progress{w: w, terminal: terminal, now: now}
}

// Set shows text, a single line.
func (p *Progress) Set(text string) {
	pause := plainEvery
	if p.terminal {
		pause = 100 * time.Millisecond
	}
	now := p.now()
	if p.drawn && now.Sub(p.last) < pause {
		return
	}
	p.last, p.drawn = now, true
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(p.w, text)
	}
}

// Clear takes the line off the terminal.
func (p *Progress) Clear() {
	if p.terminal && p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.drawn = false
}
