package frugal

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A budget holds the beginning and the end of what it is given in at most max
// bytes. A quarter is for the beginning. Of what it leaves out it notes the
// first error and the addresses, which are what a reader would search for.
type budget struct {
	max int

	head     []unit
	headSize int
	headMax  int
	headFull bool

	tail     []unit
	tailSize int

	notes     []string
	notesSize int
	notesMax  int
	seenError bool
	seenURL   map[string]bool

	elided      int64
	elidedLines int
	elidedFrom  int64
}

// Below this there is room for the end and the marker only.
const smallBudget = 1 << 10

func newBudget(max int) *budget {
	b := &budget{max: max, seenURL: map[string]bool{}}
	if max >= smallBudget {
		b.headMax, b.notesMax = max/4, max/8
	}
	return b
}

func (b *budget) add(u unit) {
	if !b.headFull && b.headSize+len(u.text) <= b.headMax {
		b.head = append(b.head, u)
		b.headSize += len(u.text)
		return
	}
	b.headFull = true
	b.tail = append(b.tail, u)
	b.tailSize += len(u.text)
	for len(b.tail) > 1 && b.headSize+b.tailSize > b.max {
		b.elide()
	}
}

// elide leaves out the first unit of the tail.
func (b *budget) elide() {
	u := b.tail[0]
	b.tail[0] = unit{}
	b.tail = b.tail[1:]
	b.tailSize -= len(u.text)
	if b.elided == 0 {
		b.elidedFrom = u.start
		for _, h := range b.head {
			b.seen(h)
		}
	}
	b.elided += int64(len(u.text))
	b.elidedLines += u.lines
	b.note(u)
}

var (
	errorLine = []string{"error", "Error", "ERROR", "panic:", "FAIL", "fatal", "Fatal", "FATAL", "Traceback", "Exception"}
	urls      = regexp.MustCompile(`\bhttps?://[^\s"'<>` + "`" + `\x{fffd}]+`)
)

func isError(text string) bool {
	for _, word := range errorLine {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

func findURLs(text string) []string {
	if !strings.Contains(text, "://") {
		return nil
	}
	found := urls.FindAllString(text, -1)
	for i := range found {
		found[i] = strings.TrimRight(found[i], ".,;:!?)]}")
	}
	return found
}

// seen remembers what is in the head and need not be noted.
func (b *budget) seen(u unit) {
	b.seenError = b.seenError || isError(u.text)
	for _, url := range findURLs(u.text) {
		b.seenURL[url] = true
	}
}

const maxNote = 300

func (b *budget) note(u unit) {
	if b.notesSize >= b.notesMax {
		return
	}
	text, _, _ := strings.Cut(u.text, "\n")
	if !b.seenError && isError(text) {
		b.seenError = true
		b.addNote(u.start, text[:runeCut(text, maxNote)])
	}
	for _, url := range findURLs(text) {
		if !b.seenURL[url] && len(url) <= 2*maxNote {
			if b.addNote(u.start, url) {
				b.seenURL[url] = true
			}
		}
	}
}

func (b *budget) addNote(at int64, text string) bool {
	note := fmt.Sprintf("[at %d: %s]\n", at, text)
	if b.notesSize+len(note) > b.notesMax {
		return false
	}
	b.notes = append(b.notes, note)
	b.notesSize += len(note)
	return true
}

// runeCut is the largest length up to n at which text can be cut.
func runeCut(text string, n int) int {
	if n >= len(text) {
		return len(text)
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}

func (b *budget) marker(elided int64, lines int) string {
	return fmt.Sprintf("[%d bytes, %d lines elided; read from %d]\n", elided, lines, b.elidedFrom)
}

func (b *budget) result(res *Result) {
	if b.headSize+b.tailSize > b.max || b.elided > 0 {
		for len(b.tail) > 1 && b.headSize+len(b.marker(b.elided, b.elidedLines))+b.notesSize+b.tailSize > b.max {
			b.elide()
		}
		b.cutLast()
	}
	var text strings.Builder
	text.Grow(min(b.max, b.headSize+b.tailSize+b.notesSize+100))
	for _, u := range b.head {
		text.WriteString(u.text)
	}
	if b.elided > 0 {
		text.WriteString(b.marker(b.elided, b.elidedLines))
		for _, n := range b.notes {
			text.WriteString(n)
		}
	}
	for _, u := range b.tail {
		text.WriteString(u.text)
	}
	res.Text = text.String()
	if len(res.Text) > b.max { // not even the marker fits
		res.Text = res.Text[:runeCut(res.Text, b.max)]
	}
	res.Elided, res.ElidedLines, res.ElidedFrom = b.elided, b.elidedLines, b.elidedFrom
}

// cutLast cuts the beginning off the one unit that is left of the tail if it
// does not fit.
func (b *budget) cutLast() {
	if len(b.tail) != 1 {
		return
	}
	u := &b.tail[0]
	from, over := b.elidedFrom, b.headSize+b.notesSize+b.tailSize-b.max
	if b.elided == 0 {
		b.elidedFrom = u.start
	} else {
		over += len(b.marker(b.elided, b.elidedLines))
	}
	if over <= 0 {
		b.elidedFrom = from
		return
	}
	// The marker as it is if all of the unit goes is as long as it can get.
	marker := len(b.marker(b.elided+int64(len(u.text)), b.elidedLines+u.lines))
	cut := len(u.text) - (b.max - b.headSize - b.notesSize - marker)
	if cut >= len(u.text) {
		cut = len(u.text)
		b.elidedLines += u.lines
	} else {
		for cut < len(u.text) && !utf8.RuneStart(u.text[cut]) {
			cut++
		}
	}
	b.elided += int64(cut)
	b.tailSize -= cut
	u.text = u.text[cut:]
}
