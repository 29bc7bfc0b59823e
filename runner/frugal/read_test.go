package frugal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"berth/runner/logstore"
)

// logOf makes a log of pieces: those that start with "!" are stderr's.
func logOf(t testing.TB, limit int64, pieces ...string) *logstore.Writer {
	t.Helper()
	w, err := logstore.Create(t.TempDir(), limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	for _, p := range pieces {
		put(w, p)
	}
	return w
}

func put(w *logstore.Writer, p string) {
	if text, ok := strings.CutPrefix(p, "!"); ok {
		w.Append(logstore.Stderr, time.Now(), []byte(text))
		return
	}
	w.Append(logstore.Stdout, time.Now(), []byte(p))
}

func read(t testing.TB, w *logstore.Writer, o Options) Result {
	t.Helper()
	res, err := Read(w.Reader(), o)
	if err != nil {
		t.Fatal(err)
	}
	budget := o.MaxBytes
	if budget <= 0 {
		budget = DefaultMaxBytes
	}
	if len(res.Text) > budget || !isClean([]byte(res.Text)) {
		t.Fatalf("%d bytes in a budget of %d, or not clean", len(res.Text), budget)
	}
	if res.Bytes != res.Next-o.Since {
		t.Fatalf("%d bytes from %d to %d", res.Bytes, o.Since, res.Next)
	}
	return res
}

func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	re := regexp.MustCompile
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name string
		log  []string
		o    Options
		want string
	}{
		{"empty", nil, Options{}, ""},
		{"plain", []string{"a\nb\n"}, Options{}, "a\nb\n"},
		{"unfinished line", []string{"a\nb"}, Options{}, "a\nb"},
		{"since", []string{"a\nb\nc\n"}, Options{Since: 2}, "b\nc\n"},
		{"stream", []string{"out\n", "!err\n"}, Options{Stream: logstore.Stderr}, "err\n"},
		{"streams do not cut each other", []string{"hel", "!oops\n", "lo\n"}, Options{}, "hello\noops\n"},
		{"both unfinished", []string{"Password: ", "!warn\n", "!more"}, Options{}, "Password: \nwarn\nmore"},
		{"a colour reset is no line", []string{"a\n\x1b[0m", "!err\n", "b\n"}, Options{}, "a\nerr\nb\n"},
		{"repeats", []string{strings.Repeat("same line of text\n", 100) + "end\n"}, Options{}, "same line of text\n[last line repeated 99 more times]\nend\n"},
		{"one long repeat", []string{strings.Repeat(long[:40]+"\n", 2)}, Options{}, long[:40] + "\n[last line repeated 1 more time]\n"},
		{"short repeats are cheaper as they are", []string{"\n\n\na\na\n"}, Options{}, "\n\n\na\na\n"},
		{"unfinished repeat", []string{"abc\nabc"}, Options{}, "abc\nabc"},
		{"long line", []string{long + "\nb\n"}, Options{}, long[:MaxLine] + " [2952 bytes cut]\nb\n"},
		{"long line of wide characters", []string{"a" + strings.Repeat("é", 1024) + "\n"}, Options{}, "a" + strings.Repeat("é", 1023) + " [2 bytes cut]\n"},
		{"backspace in a long line", []string{long[:MaxLine+1] + "\b\n"}, Options{}, long[:MaxLine] + "\n"},
		{"tail", []string{numbered(1, 9)}, Options{Tail: 2}, "line 8\nline 9\n"},
		{"tail unfinished", []string{"a\nb\nc"}, Options{Tail: 2}, "b\nc"},
		{"tail of two streams", []string{"ab", "!x\n", "cd\n"}, Options{Tail: 2}, "abcd\nx\n"},
		{"tail more than there is", []string{"a\nb\n"}, Options{Tail: 20}, "a\nb\n"},
		{"tail since", []string{numbered(1, 9)}, Options{Tail: 5, Since: 49}, "line 8\nline 9\n"},
		{"head", []string{numbered(1, 9)}, Options{Head: 2}, "line 1\nline 2\n"},
		{"head and tail", []string{numbered(1, 9)}, Options{Head: 5, Tail: 2}, "line 4\nline 5\n"},
		{"grep", []string{numbered(1, 12)}, Options{Grep: re("1")}, "line 1\nline 10\nline 11\nline 12\n"},
		{"grep after cleaning", []string{"\x1b[31merr\x1b[0mor\n"}, Options{Grep: re("^error$")}, "error\n"},
		{"grep none", []string{numbered(1, 12)}, Options{Grep: re("none")}, ""},
		{"grep in a long line", []string{long + "needle\nb\n"}, Options{Grep: re("needle")}, long[:MaxLine] + " [2958 bytes cut]\n"},
		{"grep tail", []string{numbered(1, 12)}, Options{Grep: re("1"), Tail: 2}, "line 11\nline 12\n"},
		{"grep head", []string{numbered(1, 12)}, Options{Grep: re("1"), Head: 2}, "line 1\nline 10\n"},
		{"invert", []string{numbered(1, 3)}, Options{Grep: re("2"), Invert: true}, "line 1\nline 3\n"},
		{"context", []string{numbered(1, 9)}, Options{Grep: re("[28]"), Context: 1}, "line 1\nline 2\nline 3\n--\nline 7\nline 8\nline 9\n"},
		{"contexts that touch", []string{numbered(1, 7)}, Options{Grep: re("[25]"), Context: 1}, numbered(1, 6)},
		{"contexts that overlap", []string{numbered(1, 7)}, Options{Grep: re("[24]"), Context: 2}, numbered(1, 6)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := logOf(t, 0, tt.log...)
			res := read(t, w, tt.o)
			if res.Text != tt.want {
				t.Errorf("got  %q\nwant %q", res.Text, tt.want)
			}
			if res.Elided != 0 || tt.o.Head == 0 && res.Next != w.Size() || res.Size != w.Size() {
				t.Errorf("%+v, the log ends at %d", res, w.Size())
			}
		})
	}
}

func TestHeadPages(t *testing.T) {
	w := logOf(t, 0, numbered(1, 100))
	var all string
	for since := int64(0); since < w.Size(); {
		res := read(t, w, Options{Since: since, Head: 7})
		all += res.Text
		since = res.Next
	}
	if all != numbered(1, 100) {
		t.Errorf("got %q", all)
	}
}

func TestCursorOutside(t *testing.T) {
	w := logOf(t, 0, "abc\n")
	for _, o := range []Options{{Since: -1}, {Since: 5}, {Since: 5, Tail: 3}, {Since: -1, Tail: 3}} {
		var ce *logstore.CursorError
		if _, err := Read(w.Reader(), o); !errors.As(err, &ce) || ce.Size != 4 {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestCutAtTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name     string
		log      []string
		text     string
		next     int64
		rest     string // what is appended then
		restText string
	}{
		{"character", []string{"ab\xe4\xb8"}, "ab", 2, "\x96\n", "世\n"},
		{"sequence", []string{"ab\x1b[3"}, "ab", 2, "1mc\n", "c\n"},
		{"title", []string{"ab\x1b]0;ti"}, "ab", 2, "tle\x07c\n", "c\n"},
		{"whole", []string{"ab\x1b[0m"}, "ab", 6, "c\n", "c\n"},
		{"the other stream wrote before", []string{"!x\n", "ab\xe4"}, "x\nab", 4, "\xb8\x96\n", "世\n"},
		{"the other stream wrote behind", []string{"ab\xe4", "!x\n"}, "ab\uFFFD\nx\n", 5, "c\n", "c\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := logOf(t, 0, tt.log...)
			res := read(t, w, Options{})
			if res.Text != tt.text || res.Next != tt.next {
				t.Errorf("got %q, next %d, want %q, next %d", res.Text, res.Next, tt.text, tt.next)
			}
			put(w, tt.rest)
			if res = read(t, w, Options{Since: res.Next}); res.Text != tt.restText {
				t.Errorf("then %q, want %q", res.Text, tt.restText)
			}
		})
	}
	w := logOf(t, 0, "ab\xe4\xb8")
	w.Close()
	if res := read(t, w, Options{}); res.Text != "ab\uFFFD\uFFFD" || res.Next != 4 || !res.Closed {
		t.Errorf("closed: %+v", res)
	}
}

func TestGapIsShown(t *testing.T) {
	w := logOf(t, 4096, numbered(1, 2000))
	res := read(t, w, Options{})
	if !strings.Contains(res.Text, fmt.Sprintf("[%d bytes missing: the log was at its limit]\n", res.Missing)) ||
		res.Missing < 10_000 || !strings.HasPrefix(res.Text, "line 1\n") || !strings.HasSuffix(res.Text, "line 2000\n") {
		t.Errorf("%+v", res)
	}
}

func TestBudget(t *testing.T) {
	whole := numbered(1, 20_000)
	w := logOf(t, 0, whole)
	marker := regexp.MustCompile(`(?m)^\[(\d+) bytes, (\d+) lines elided; read from (\d+)\]$`)
	for budget := 1; budget < 40_000; budget += 1 + budget/3 {
		res := read(t, w, Options{MaxBytes: budget})
		if res.Elided == 0 || res.Next != w.Size() || res.Lines != 20_000 {
			t.Fatalf("budget %d: %+v", budget, res)
		}
		if budget < 100 {
			continue
		}
		if m := marker.FindString(res.Text); m != fmt.Sprintf("[%d bytes, %d lines elided; read from %d]", res.Elided, res.ElidedLines, res.ElidedFrom) {
			t.Fatalf("budget %d: marker %q, %+v", budget, m, res)
		}
		if !strings.HasSuffix(res.Text, "\nline 20000\n") || len(res.Text) < budget-20 {
			t.Errorf("budget %d: %d bytes that end in %q", budget, len(res.Text), res.Text[max(0, len(res.Text)-30):])
		}
		head, tail, _ := strings.Cut(res.Text, marker.FindString(res.Text)+"\n")
		rest := read(t, w, Options{Since: res.ElidedFrom, MaxBytes: len(whole)})
		if got := head + rest.Text[:res.Elided] + tail; got != whole {
			t.Fatalf("budget %d: head, elided part and tail are not the whole", budget)
		}
		if budget > 2000 && (len(head) < budget/4-20 || len(head) > budget/4) {
			t.Errorf("budget %d: head of %d", budget, len(head))
		}
	}
}

func TestBudgetKeepsErrorAndAddresses(t *testing.T) {
	w := logOf(t, 0, numbered(1, 5000), "src/a.c:3: error: expected ';'\n", "!error: a later one\n",
		"ready on \x1b[36mhttp://localhost:5173/\x1b[0m.\n", numbered(5001, 5500), "again http://localhost:5173/\n", numbered(5501, 20_000), "docs: https://example.org/x?y=1\n", numbered(20_001, 30_000), "last\n")
	res := read(t, w, Options{MaxBytes: 4 << 10})
	for _, want := range []string{"src/a.c:3: error: expected ';'", "http://localhost:5173/]", "https://example.org/x?y=1"} {
		if strings.Count(res.Text, want) != 1 {
			t.Errorf("%q is in it %d times", want, strings.Count(res.Text, want))
		}
	}
	if strings.Contains(res.Text, "later one") || !strings.HasSuffix(res.Text, "last\n") {
		t.Errorf("got %s", res.Text)
	}
	var at int64
	i := strings.Index(res.Text, "[at ")
	if _, err := fmt.Sscanf(res.Text[i:], "[at %d:", &at); err != nil {
		t.Fatal(err)
	}
	if there := read(t, w, Options{Since: at, Head: 1}); there.Text != "src/a.c:3: error: expected ';'\n" {
		t.Errorf("the note's cursor leads to %q", there.Text)
	}
}

// Reading a growing log in steps gives every byte once and in the end the same
// text as reading it whole.
func FuzzSteps(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\nc\xe4\xb8\x96\n\x1b]0;t\x07d"), uint64(1))
	f.Add([]byte("\x1b]0;"+strings.Repeat("long ", 1000)+"\n\xff\xf0\x9f\x8e\x89\x1b"), uint64(2))
	for i, tt := range cleanTests {
		f.Add([]byte(tt.in), uint64(i))
	}
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) {
		// What redraws a line cannot reach back into a text that was given out.
		p = bytes.Clone(p)
		for i, b := range p {
			if strings.IndexByte("\r\bGK", b) >= 0 {
				p[i] = '.'
			}
		}
		lines := strings.Split(string(Clean(p)), "\n")
		for i, l := range lines {
			if len(l) > MaxLine || i > 0 && len(l) > 10 && l == lines[i-1] {
				t.Skip("lines are cut or folded")
			}
		}
		if len(p) > 100_000 {
			t.Skip("too long")
		}
		rnd := rand.New(rand.NewPCG(seed, 0))
		w := logOf(t, 0)
		var got strings.Builder
		var next, looked int64
		step := func() {
			res := read(t, w, Options{Since: next, MaxBytes: 1 << 20})
			if res.Next < next || res.Next > res.Size {
				t.Fatalf("from %d to %d of %d", next, res.Next, res.Size)
			}
			got.WriteString(res.Text)
			next = res.Next
			looked += res.Bytes
		}
		for rest := p; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 20+len(p)/20))
			w.Append(logstore.Stdout, time.Now(), rest[:n])
			rest = rest[n:]
			step()
		}
		w.Close()
		step()
		if next != int64(len(p)) || looked != next {
			t.Fatalf("looked at %d bytes of %d, next is %d", looked, len(p), next)
		}
		if want := string(Clean(p)); got.String() != want {
			t.Fatalf("%q in steps gives %q, want %q", p, got.String(), want)
		}
	})
}

// No option and no output gets a byte past the budget.
func FuzzBudget(f *testing.F) {
	for i, tt := range cleanTests {
		f.Add([]byte(strings.Repeat(tt.in, 1+i*3)), []byte("x\n"), i*7, i%5, i%3, i%2 == 0)
	}
	f.Add([]byte(numbered(1, 500)), []byte(strings.Repeat("é", 3000)), 1500, 0, 0, false)
	f.Add([]byte(strings.Repeat("error http://x/\n", 500)), []byte(strings.Repeat("世", 3000)), 1100, 0, 0, false)
	f.Fuzz(func(t *testing.T, out, err []byte, budget, tail, head int, grep bool) {
		if len(out) > 100_000 || len(err) > 100_000 {
			t.Skip("too long")
		}
		w := logOf(t, 0)
		for len(out) > 0 || len(err) > 0 {
			n, m := min(len(out), 700), min(len(err), 300)
			w.Append(logstore.Stdout, time.Now(), out[:n])
			w.Append(logstore.Stderr, time.Now(), err[:m])
			out, err = out[n:], err[m:]
		}
		w.Close()
		o := Options{MaxBytes: budget % 20_000, Tail: tail, Head: head, Context: 1}
		if grep {
			o.Grep = regexp.MustCompile("[a-f]")
		}
		res := read(t, w, o)
		if head <= 0 && res.Next != w.Size() {
			t.Fatalf("next is %d of %d", res.Next, w.Size())
		}
		if res.Elided < 0 || res.Elided == 0 && strings.Contains(res.Text, "lines elided; read from") {
			t.Fatalf("%+v", res)
		}
		if !utf8.ValidString(res.Text) {
			t.Fatalf("%q", res.Text)
		}
	})
}

// workloads are the outputs that blow up naive readers.
func workloads(size int) map[string]func(w *logstore.Writer) {
	chunked := func(w *logstore.Writer, total int, line func(i int) string) {
		var b strings.Builder
		for i := 0; total > 0; i++ {
			l := line(i)
			b.WriteString(l)
			if total -= len(l); b.Len() > 32<<10 || total <= 0 {
				w.Append(logstore.Stdout, time.Now(), []byte(b.String()))
				b.Reset()
			}
		}
	}
	rnd := rand.New(rand.NewPCG(8, 8))
	return map[string]func(w *logstore.Writer){
		"lines": func(w *logstore.Writer) {
			chunked(w, size, func(i int) string {
				return fmt.Sprintf("%08d some line of a build with a few words in it\n", i)
			})
		},
		"progress": func(w *logstore.Writer) {
			for i := range 10_000 {
				w.Append(logstore.Stderr, time.Now(), fmt.Appendf(nil, "\r\x1b[K%5d/10000 [%s]", i+1, strings.Repeat("#", i/250)))
			}
		},
		"one line":    func(w *logstore.Writer) { chunked(w, 5<<20, func(int) string { return "0123456789abcdef" }) },
		"equal lines": func(w *logstore.Writer) { chunked(w, 100_000*20, func(int) string { return "the same line again\n" }) },
		"prompt, lines": func(w *logstore.Writer) {
			put(w, "!Continue? ")
			chunked(w, size/16, func(i int) string { return fmt.Sprintf("%d\n", i) })
		},
		"rubbish": func(w *logstore.Writer) {
			chunked(w, size/8, func(int) string { return string([]byte{byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())}) })
		},
	}
}

func TestMemoryIsBounded(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // or what is measured is how late the collector comes
	for name, write := range workloads(8 << 20) {
		t.Run(name, func(t *testing.T) {
			w := logOf(t, 0)
			write(w)
			w.Close()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for _, o := range []Options{{}, {MaxBytes: 1000}, {Grep: regexp.MustCompile("7"), Tail: 100_000}} {
				res := read(t, w, o)
				if res.Next != w.Size() || !res.Closed {
					t.Errorf("%+v", res.Next)
				}
			}
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
	w := logOf(t, 0)
	workloads(0)["progress"](w)
	if res := read(t, w, Options{}); res.Text != "10000/10000 ["+strings.Repeat("#", 39)+"]" {
		t.Errorf("progress bar: %q", res.Text)
	}
}

func BenchmarkRead200MB(b *testing.B) {
	w := logOf(b, 0)
	workloads(200 << 20)["lines"](w)
	w.Close()
	for name, o := range map[string]Options{"all": {}, "tail": {Tail: 20}, "grep": {Grep: regexp.MustCompile("99999 some")}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(w.Size())
			for b.Loop() {
				read(b, w, o)
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapSys>>20), "heapMiB")
		})
	}
}
