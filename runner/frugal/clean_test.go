package frugal

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

var cleanTests = []struct{ name, in, want string }{
	{"plain", "a\nb\n", "a\nb\n"},
	{"no newline", "a", "a"},
	{"empty", "", ""},
	{"tabs stay", "a\tb\n", "a\tb\n"},
	{"blank lines stay", "\n\na\n", "\n\na\n"},
	{"CRLF", "a\r\nb\r\n", "a\nb\n"},
	{"CR CR LF", "a\r\r\n", "a\n"},
	{"progress", "10%\r20%\r100%\ndone\n", "100%\ndone\n"},
	{"progress left on a carriage return", "10%\r20%\r", "20%"},
	{"redraw by column", "10%\x1b[1G20%\x1b[G30%\n", "30%\n"},
	{"erased line", "wait\r\x1b[Kdone\n", "done\n"},
	{"erased and left empty", "wait\r\x1b[K\n", "\n"},
	{"erased whole", "wait\x1b[2Kdone\n", "done\n"},
	{"erase to the end of line erases nothing", "text\x1b[K\n", "text\n"},
	{"backspace", "abc\b\bX\n", "aX\n"},
	{"spinner", "|\b/\b-\b\\\bok\n", "ok\n"},
	{"overstrike", "N\bNA\bAM\bME\bE\n", "NAME\n"},
	{"backspace over a wide character", "é世\b\n", "é\n"},
	{"backspace at the start", "\b\ba\n", "a\n"},
	{"colours", "\x1b[1;31mred\x1b[0m\n", "red\n"},
	{"256 colours with colons", "\x1b[38:5:1mred\x1b[m\n", "red\n"},
	{"cursor movement", "\x1b[2A\x1b[10;20Hx\x1b[?25l\x1b7\x1b8\n", "x\n"},
	{"title", "\x1b]0;title\x07a\n", "a\n"},
	{"hyperlink", "\x1b]8;;http://x/\x1b\\text\x1b]8;;\x1b\\\n", "text\n"},
	{"DCS", "\x1bPq#0;2\x1b\\a\n", "a\n"},
	{"character set", "\x1b(Ba\n", "a\n"},
	{"title without end", "\x1b]0;title\nnext\n", "\nnext\n"},
	{"sequence cut by newline", "\x1b[31\nnext\n", "\nnext\n"},
	{"sequence cut by sequence", "\x1b[3\x1b[0mx\n", "x\n"},
	{"sequence cut by a character", "\x1b[3é\n", "é\n"},
	{"sequence at the end", "a\x1b[3", "a"},
	{"escape at the end", "a\x1b", "a"},
	{"very long string is text again", "\x1b]" + strings.Repeat("x", maxString+2) + "\n", "xx\n"},
	{"controls", "a\x00\x01\x07\x0e\x7fb\n", "ab\n"},
	{"C1 controls", "a\u0085\u009b31mb\n", "a31mb\n"},
	{"valid UTF-8", "héllo 世界 🎉\n", "héllo 世界 🎉\n"},
	{"invalid bytes", "a\xff\xfeb\n", "a\uFFFD\uFFFDb\n"},
	{"cut character", "\xe4\xb8\n", "\uFFFD\uFFFD\n"},
	{"cut character and another", "\xe4\xb8é\n", "\uFFFD\uFFFDé\n"},
	{"cut character at the end", "a\xf0\x9f", "a\uFFFD\uFFFD"},
	{"cut character and escape", "\xe4\x1b[0mb\n", "\uFFFDb\n"},
	{"surrogate", "\xed\xa0\x80\n", "\uFFFD\uFFFD\uFFFD\n"},
	{"overlong", "\xc0\xaf\n", "\uFFFD\uFFFD\n"},
}

func TestClean(t *testing.T) {
	for _, tt := range cleanTests {
		if got := Clean([]byte(tt.in)); string(got) != tt.want {
			t.Errorf("%s: %q gives %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func isClean(p []byte) bool {
	return utf8.Valid(p) && !bytes.ContainsFunc(p, func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0
	})
}

func FuzzClean(f *testing.F) {
	for _, tt := range cleanTests {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		before := bytes.Clone(p)
		got := Clean(p)
		if !bytes.Equal(p, before) {
			t.Fatal("the input was changed")
		}
		if !isClean(got) {
			t.Fatalf("%q gives %q", p, got)
		}
		if again := Clean(got); !bytes.Equal(again, got) {
			t.Fatalf("%q gives %q, and that gives %q", p, got, again)
		}
		if bytes.Count(got, []byte("\n")) != bytes.Count(p, []byte("\n")) {
			t.Fatalf("%q gives %q: lines differ", p, got)
		}
	})
}
