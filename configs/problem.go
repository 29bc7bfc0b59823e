package configs

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// FileError is a configuration file that cannot be used. Its text is the first
// problem.
type FileError struct {
	File     string
	Problems []Problem // at least one
}

func (e *FileError) Error() string { return e.Problems[0].String() }

// Problem is one thing that is wrong with a file.
type Problem struct {
	File    string // absolute
	Line    int    // from 1; 0 is the file as a whole
	Column  int    // from 1, in characters
	Text    string // one line
	Hint    string // one line, what to write instead; may be ""
	Excerpt string // the line of the file and one with a caret below it; may be ""
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// VariableError is a variable of the environment, or a flag, that has a value
// which cannot be used.
type VariableError struct{ Name, Value, Why, Hint string }

func (e *VariableError) Error() string { return fmt.Sprintf("bad %s %q: %s", e.Name, e.Value, e.Why) }

// source is the text of a file, by lines.
type source [][]byte

func newSource(data []byte) source { return bytes.Split(data, []byte("\n")) }

// line is a line from 1, "" if there is none.
func (s source) line(n int) string {
	if n < 1 || n > len(s) {
		return ""
	}
	return strings.TrimSuffix(string(s[n-1]), "\r")
}

// pastEnd tells whether from line n on there is nothing but space.
func (s source) pastEnd(n int) bool {
	for ; n <= len(s); n++ {
		if strings.TrimSpace(s.line(n)) != "" {
			return false
		}
	}
	return true
}

// position is the line and column of a byte.
func (s source) position(offset int) (line, column int) {
	for i, l := range s {
		if offset <= len(l) {
			return i + 1, utf8.RuneCount(l[:offset]) + 1
		}
		offset -= len(l) + 1
	}
	return len(s), 1
}

// Around how many characters of a long line are shown.
const (
	shownBefore = 60
	shownAfter  = 60
)

// excerpt is a line and a caret below a column. What could steer a terminal is
// shown as a space: the file may be anybody's.
func (s source) excerpt(line, column int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s.line(line), "?")))
	if len(strings.TrimSpace(string(runes))) == 0 || column < 1 || column > len(runes)+1 {
		return ""
	}
	begin, end := max(0, column-1-shownBefore), min(len(runes), column-1+shownAfter)
	below := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(runes[begin:column-1]))
	return string(runes[begin:end]) + "\n" + below + "^"
}
