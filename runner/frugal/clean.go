package frugal

import "unicode/utf8"

// Escape sequences longer than these are not believed: what comes after is
// text again. They also bound how much of an unfinished sequence is left for
// the next read.
const (
	maxSequence = 256
	maxString   = 4 << 10 // OSC, DCS and the like
)

// Clean makes p safe to print: valid UTF-8 (what is not becomes U+FFFD),
// without escape sequences and control characters other than newline and tab,
// carriage-return redraws reduced to their last state, backspaces applied. It
// is idempotent.
func Clean(p []byte) []byte {
	var c cleaner
	out := make([]byte, 0, len(p))
	for off := 0; off < len(p); {
		n, done := c.feed(p[off:], int64(off))
		off += n
		if done {
			out = append(append(out, c.text...), '\n')
			c.reset()
		}
	}
	c.finish()
	return append(out, c.text...)
}

type state uint8

const (
	ground    state = iota
	escape          // after ESC
	inter           // ESC and intermediate bytes
	csi             // ESC [
	str             // ESC ] and other strings that end with BEL or ESC \
	strEscape       // ESC within str
)

// A cleaner is the terminal of one stream, as far as we believe in it: it holds
// the current line. It takes one byte after the other, so that it does not
// matter how output is cut up.
type cleaner struct {
	keep int // bytes of a line that are kept; 0: all

	text    []byte
	dropped int64 // bytes of the line beyond keep
	begun   bool  // something visible has been put on the line
	start   int64 // offset of the first of it
	cr      bool  // the cursor is at the start of the line: what comes replaces it

	state    state
	seqStart int64  // offset of the unfinished sequence or character
	seqLen   int    // bytes of it
	params   []byte // of csi
	partial  []byte // of a multibyte character
}

// reset starts a new line. An unfinished sequence stays.
func (c *cleaner) reset() {
	c.text, c.dropped, c.begun, c.cr = c.text[:0], 0, false, false
}

// unfinished tells whether the last bytes fed are part of a sequence or
// character that goes on.
func (c *cleaner) unfinished() bool { return c.state != ground || len(c.partial) > 0 }

// finish gives up on what is unfinished.
func (c *cleaner) finish() {
	c.invalid()
	c.state = ground
}

// feed takes bytes of p, which are at offset off, up to the first newline that
// ends a line. It returns how many it took and whether there was one.
func (c *cleaner) feed(p []byte, off int64) (n int, done bool) {
	for n < len(p) {
		if c.state == ground && len(c.partial) == 0 {
			run := n
			for run < len(p) && p[run] >= ' ' && p[run] < 0x7f {
				run++
			}
			if run > n {
				c.put(p[n:run], off+int64(n))
				n = run
				continue
			}
		}
		b := p[n]
		n++
		if c.sequence(b, off+int64(n)-1) {
			continue
		}
		if b == '\n' {
			return n, true
		}
		c.control(b, off+int64(n)-1)
	}
	return n, false
}

// sequence takes a byte of an escape sequence or multibyte character. It
// returns false for a byte that is neither, after giving up on what that byte
// cuts short.
func (c *cleaner) sequence(b byte, off int64) bool {
	if b >= utf8.RuneSelf && c.state != str {
		c.state = ground
		c.multibyte(b, off)
		return true
	}
	c.invalid()
	if b == 0x1b {
		if c.state == str {
			c.state = strEscape
			return true
		}
		c.state, c.seqStart, c.seqLen = escape, off, 0
		return true
	}
	if c.state == ground {
		if b >= ' ' && b < 0x7f {
			c.put([]byte{b}, off)
			return true
		}
		return false
	}
	c.seqLen++
	if c.state == str {
		return c.stringByte(b)
	}
	if b < ' ' || b == 0x7f || c.seqLen > maxSequence {
		c.state = ground
		if b >= ' ' && b < 0x7f {
			c.put([]byte{b}, off)
			return true
		}
		return false
	}
	switch c.state {
	case strEscape:
		if b == '\\' {
			c.state = ground
			return true
		}
		c.escapeByte(b)
	case escape:
		c.escapeByte(b)
	case inter:
		if b >= '0' {
			c.state = ground
		}
	case csi:
		if b < '@' {
			c.params = append(c.params, b)
		} else {
			c.state = ground
			c.command(b)
		}
	}
	return true
}

func (c *cleaner) escapeByte(b byte) {
	switch {
	case b == '[':
		c.state, c.params, c.seqLen = csi, c.params[:0], 0
	case b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_':
		c.state, c.seqLen = str, 0
	case b < '0':
		c.state = inter
	default:
		c.state = ground
	}
}

// stringByte takes a byte of an OSC or the like. A newline ends it, so that
// binary rubbish hides a line at most.
func (c *cleaner) stringByte(b byte) bool {
	switch {
	case b == '\n':
		c.state = ground
		return false
	case b == 0x07 || b == 0x18 || b == 0x1a || c.seqLen >= maxString:
		c.state = ground
	}
	return true
}

// command obeys the few CSI sequences that redraw a line.
func (c *cleaner) command(final byte) {
	arg := string(c.params)
	switch {
	case final == 'G' && (arg == "" || arg == "0" || arg == "1"):
		c.cr = true
	case final == 'K' && (arg == "2" || c.cr && (arg == "" || arg == "0")):
		c.text, c.dropped = c.text[:0], 0
	}
}

func (c *cleaner) multibyte(b byte, off int64) {
	if len(c.partial) > 0 && utf8.RuneStart(b) {
		c.invalid()
	}
	if len(c.partial) == 0 {
		c.seqStart = off
	}
	c.partial = append(c.partial, b)
	if !utf8.FullRune(c.partial) {
		return
	}
	r, size := utf8.DecodeRune(c.partial)
	if r == utf8.RuneError && size == 1 {
		c.invalid()
		return
	}
	if r >= 0xa0 { // below are the C1 controls
		c.put(c.partial, c.seqStart)
	}
	c.partial = c.partial[:0]
}

// invalid puts U+FFFD for each byte of a character that turned out not to be
// one.
func (c *cleaner) invalid() {
	for range c.partial {
		c.put([]byte("\uFFFD"), c.seqStart)
	}
	c.partial = c.partial[:0]
}

func (c *cleaner) control(b byte, off int64) {
	switch b {
	case '\t':
		c.put([]byte{b}, off)
	case '\r':
		c.cr = true
	case '\b':
		switch {
		case c.cr:
		case c.dropped > 0:
			c.dropped--
		case len(c.text) > 0:
			_, size := utf8.DecodeLastRune(c.text)
			c.text = c.text[:len(c.text)-size]
		}
	}
}

// put adds whole characters to the line.
func (c *cleaner) put(b []byte, off int64) {
	if !c.begun {
		c.begun, c.start = true, off
	}
	if c.cr {
		c.text, c.dropped, c.cr = c.text[:0], 0, false
	}
	n := len(b)
	if c.keep > 0 {
		n = min(n, c.keep-len(c.text))
		if c.dropped > 0 || n < len(b) && b[0] >= utf8.RuneSelf {
			n = 0
		}
	}
	c.text = append(c.text, b[:n]...)
	c.dropped += int64(len(b) - n)
}
