package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// pattern is the output of the test jobs: what byte is at which offset.
func pattern(offset int64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		o := uint64(offset + int64(i))
		b[i] = byte(o ^ o>>8*7 ^ o>>16*13)
	}
	return b
}

// patternStream is the stream that the bytes at offset are written to.
func patternStream(offset int64) Stream { return Stdout + Stream(offset/1000%2) }

// writePattern appends n bytes in pieces of random sizes up to most.
func writePattern(w *Writer, n int64, most int, rnd *rand.Rand) {
	t := time.Unix(1_700_000_000, 0)
	for off := w.Size(); n > 0; {
		k := min(int64(1+rnd.IntN(most)), n, 1000-off%1000)
		w.Append(patternStream(off), t, pattern(off, int(k)))
		t = t.Add(time.Duration(rnd.IntN(3)) * time.Millisecond)
		off, n = off+k, n-k
	}
}

// checkPattern reads the log in random steps and returns the bytes and gaps;
// it fails on any byte that is not what was written there.
func checkPattern(t *testing.T, r *Reader, size int64, rnd *rand.Rand) (have int64, gaps []Chunk) {
	t.Helper()
	var cursor int64
	for cursor < size {
		chunks, next, err := r.ReadFrom(cursor, 1+rnd.IntN(200_000), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chunks {
			if c.Offset != cursor {
				t.Fatalf("chunk at %d, want %d", c.Offset, cursor)
			}
			cursor = c.End()
			if c.Gap > 0 {
				gaps = append(gaps, c)
				continue
			}
			if !bytes.Equal(c.Data, pattern(c.Offset, len(c.Data))) {
				t.Fatalf("wrong bytes at %d, %d of them", c.Offset, len(c.Data))
			}
			if c.Stream != patternStream(c.Offset) {
				t.Fatalf("%s at %d, want %s", c.Stream, c.Offset, patternStream(c.Offset))
			}
			have += int64(len(c.Data))
		}
		if next != cursor {
			t.Fatalf("next is %d behind chunks that end at %d", next, cursor)
		}
		if len(chunks) == 0 {
			t.Fatalf("nothing at %d of %d", cursor, size)
		}
	}
	return have, gaps
}

func create(t *testing.T, limit int64) (*Writer, string) {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, dir
}

func open(t *testing.T, dir string) *Reader {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stat(t *testing.T, r *Reader) Info {
	t.Helper()
	info, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestReadsRepeatExactly(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, most := range []int{1, 40, 9000} {
		w, dir := create(t, 0)
		const size = 150_000
		writePattern(w, size, most, rnd)
		if w.Size() != size {
			t.Fatalf("size %d", w.Size())
		}
		for range 3 {
			checkPattern(t, w.Reader(), size, rnd)
			checkPattern(t, open(t, dir), size, rnd)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if info := stat(t, open(t, dir)); info != (Info{size, true}) {
			t.Fatalf("%+v", info)
		}
		checkPattern(t, open(t, dir), size, rnd)

		var all, errs []byte
		for c, err := range open(t, dir).Chunks(0, -1, 0) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c.Data...)
			if c.Stream == Stderr {
				errs = append(errs, c.Data...)
			}
		}
		var only []byte
		for c, err := range open(t, dir).Chunks(0, -1, Stderr) {
			if err != nil {
				t.Fatal(err)
			}
			only = append(only, c.Data...)
		}
		if !bytes.Equal(all, pattern(0, size)) || !bytes.Equal(errs, only) {
			t.Fatal("Chunks differs from what was written")
		}
		_, next, err := w.Reader().ReadFrom(0, 10*size, Stdout)
		if err != nil || next != size {
			t.Fatalf("a filtered read ends at %d, %v", next, err)
		}
	}
}

func TestCursorsOutside(t *testing.T) {
	w, _ := create(t, 0)
	w.Append(Stdout, time.Now(), []byte("hello"))
	for _, cursor := range []int64{-1, 6} {
		_, _, err := w.Reader().ReadFrom(cursor, 10, 0)
		var ce *CursorError
		if !errors.As(err, &ce) || *ce != (CursorError{cursor, 5}) {
			t.Errorf("cursor %d: %v", cursor, err)
		}
	}
	if chunks, next, err := w.Reader().ReadFrom(5, 10, 0); len(chunks) != 0 || next != 5 || err != nil {
		t.Errorf("at the end: %v %d %v", chunks, next, err)
	}
}

func TestTimes(t *testing.T) {
	w, dir := create(t, 0)
	t0 := time.Unix(1_700_000_000, 123_456_789)
	for i := range 100 {
		w.Append(Stdout, t0.Add(time.Duration(i)*time.Millisecond), []byte("12345\n"))
	}
	w.Append(Stdout, t0.Add(-time.Hour), []byte("clock set back\n"))
	w.Close()
	n := 0
	for c, err := range open(t, dir).Chunks(0, -1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Offset == 600 {
			if !c.Time.Equal(t0.Add(-time.Hour)) {
				t.Errorf("after the clock was set back: %v", c.Time)
			}
			continue
		}
		for off := c.Offset; off < c.End(); off += 6 {
			want := t0.Add(time.Duration(off/6) * time.Millisecond)
			if d := want.Sub(c.Time); d < 0 || d >= mergeWithin {
				t.Errorf("bytes at %d are %v off", off, d)
			}
		}
		n++
	}
	if n < 10 || n > 30 {
		t.Errorf("%d records for 100 writes in 100 ms", n)
	}
}

func TestLimit(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for _, tt := range []struct {
		limit, size int64
		most        int
	}{
		{1, 100_000, 500},
		{64 << 10, 64 << 10, 500},
		{64 << 10, 1 << 20, 900},
		{1 << 20, 4 << 20, 1000},
		{1 << 20, 1<<20 + 1, 1000},
	} {
		t.Run(fmt.Sprintf("%d of %d", tt.limit, tt.size), func(t *testing.T) {
			w, dir := create(t, tt.limit)
			writePattern(w, tt.size, tt.most, rnd)
			limit := max(tt.limit, minLimit)
			have, gaps := checkPattern(t, w.Reader(), tt.size, rnd)
			if tt.size <= limit && have != tt.size || have > limit {
				t.Errorf("%d of %d bytes are left, the limit is %d", have, tt.size, limit)
			}
			if tt.size > limit {
				if len(gaps) != 1 || gaps[0].Reason != Limit {
					t.Fatalf("gaps %+v", gaps)
				}
				if tail := tt.size - gaps[0].End(); gaps[0].Offset != limit/2 || tail < limit/2*15/16 {
					t.Errorf("%d bytes of head and %d of tail are left of a limit of %d", gaps[0].Offset, tail, limit)
				}
			}
			var data, index int64
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, f := range files {
				st, err := os.Stat(f)
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(f, ".log") {
					data += st.Size()
				} else {
					index += st.Size()
				}
			}
			if data > limit || index > limit+34*recordSize {
				t.Errorf("%d bytes of data and %d of index on disk", data, index)
			}
			w.Close()
			checkPattern(t, open(t, dir), tt.size, rnd)
		})
	}
}

// A reader of a log that drops segments under it sees right bytes or a gap.
func TestReadWhileDropping(t *testing.T) {
	w, dir := create(t, 32<<10)
	var wg sync.WaitGroup
	wg.Go(func() {
		writePattern(w, 1<<20, 1000, rand.New(rand.NewPCG(3, 3)))
		w.Close()
	})
	for _, r := range []*Reader{w.Reader(), open(t, dir)} {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(4, 4))
			var cursor int64
			for {
				more, err := r.Wait(context.Background(), cursor)
				if err != nil {
					t.Error(err)
				}
				if !more {
					break
				}
				info, err := r.Stat()
				if err != nil {
					t.Error(err)
					return
				}
				for c, err := range r.Chunks(cursor, info.Size, 0) {
					if err != nil {
						t.Error(err)
						return
					}
					if c.Offset != cursor || !bytes.Equal(c.Data, pattern(c.Offset, len(c.Data))) || c.Gap > 0 && c.Reason != Limit {
						t.Errorf("chunk at %d of %d bytes, gap %d %s, cursor %d", c.Offset, len(c.Data), c.Gap, c.Reason, cursor)
						return
					}
					cursor = c.End()
				}
				if _, err := r.TailLines(1+rnd.IntN(5), 0); err != nil {
					t.Error(err)
				}
			}
			if cursor != 1<<20 {
				t.Errorf("ended at %d", cursor)
			}
		})
	}
	wg.Wait()
}

func TestTwoStreamsAndFollowers(t *testing.T) {
	w, dir := create(t, 0)
	const lines = 2000
	want := map[Stream]*strings.Builder{Stdout: {}, Stderr: {}}
	var writers, readers sync.WaitGroup
	for s, b := range want {
		for i := range lines {
			fmt.Fprintf(b, "%s %d\n", s, i)
		}
		writers.Go(func() {
			for i := range lines {
				w.Append(s, time.Now(), fmt.Appendf(nil, "%s %d\n", s, i))
			}
		})
	}
	for _, r := range []*Reader{w.Reader(), open(t, dir)} {
		readers.Go(func() {
			got := map[Stream]*strings.Builder{Stdout: {}, Stderr: {}}
			var cursor int64
			for {
				more, err := r.Wait(t.Context(), cursor)
				if err != nil {
					t.Error(err)
				}
				if !more {
					break
				}
				chunks, next, err := r.ReadFrom(cursor, 1000, 0)
				if err != nil || next <= cursor {
					t.Error(next, err)
				}
				for _, c := range chunks {
					got[c.Stream].Write(c.Data)
				}
				cursor = next
			}
			for s := range want {
				if got[s].String() != want[s].String() {
					t.Errorf("%s differs", s)
				}
			}
		})
	}
	writers.Wait()
	w.Close()
	readers.Wait()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	w.Append(Stdout, time.Now(), []byte("late"))
	if got := stat(t, w.Reader()).Size; got != int64(want[Stdout].Len()+want[Stderr].Len()) {
		t.Errorf("size %d", got)
	}
}

// Output reaches other processes without any help from the writer's side.
func TestGatheredOutputIsWrittenSoon(t *testing.T) {
	w, dir := create(t, 0)
	r := open(t, dir)
	for round := range int64(3) {
		start := time.Now()
		for i := range 10 { // the first is written at once, the others are gathered
			w.Append(Stdout, start.Add(time.Duration(i)), []byte{'a' + byte(i)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		for cursor := round * 10; cursor < (round+1)*10; cursor = stat(t, r).Size {
			if _, err := r.Wait(ctx, cursor); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
	}
}

func TestWaitEnds(t *testing.T) {
	w, dir := create(t, 0)
	for _, r := range []*Reader{w.Reader(), open(t, dir)} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := r.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	w.Append(Stderr, time.Now(), []byte("x"))
	w.Close()
	for _, r := range []*Reader{w.Reader(), open(t, dir)} {
		if more, err := r.Wait(context.Background(), 0); !more || err != nil {
			t.Errorf("before the end: %v, %v", more, err)
		}
		if more, err := r.Wait(context.Background(), 1); more || err != nil {
			t.Errorf("at the end: %v, %v", more, err)
		}
	}
}

func TestTailLines(t *testing.T) {
	big := strings.Repeat("x", 100_000) + "\n"
	for _, tt := range []struct {
		out    []string // alternately stdout and stderr
		n      int
		stream Stream
		want   int64
	}{
		{nil, 3, 0, 0},
		{[]string{"a\nb\nc\n"}, 0, 0, 6},
		{[]string{"a\nb\nc\n"}, 1, 0, 4},
		{[]string{"a\nb\nc"}, 1, 0, 4},
		{[]string{"a\nb\nc\n"}, 2, 0, 2},
		{[]string{"a\nb\nc\n"}, 3, 0, 0},
		{[]string{"a\nb\nc\n"}, 30, 0, 0},
		{[]string{"\n\n\n"}, 2, 0, 1},
		{[]string{"a\n", "e\nf\n", "b\n"}, 2, 0, 4},
		{[]string{"a\n", "e\nf\n", "b\n"}, 2, Stdout, 0},
		{[]string{"a\n", "e\nf\n", "b\n"}, 1, Stderr, 4},
		{[]string{"a\n", "", "b\n"}, 1, Stderr, 4},
		{[]string{big, big, "end\n"}, 2, 0, 100_001},
		{[]string{"z\n" + big, "\n"}, 2, 0, 2},
	} {
		w, _ := create(t, 0)
		for i, s := range tt.out {
			w.Append(Stdout+Stream(i%2), time.Now(), []byte(s))
		}
		got, err := w.Reader().TailLines(tt.n, tt.stream)
		if tt.stream == Stderr && tt.out[1] == "" {
			// No line at all: any cursor up to the end is right.
			tt.want = got
		}
		if err != nil || got != tt.want {
			t.Errorf("last %d lines of %s of %.40q: %d, %v, want %d", tt.n, tt.stream, tt.out, got, err, tt.want)
		}
	}
}

func TestTailLinesAcrossSegments(t *testing.T) {
	w, _ := create(t, 64<<10)
	for i := range 20_000 {
		w.Append(Stdout, time.Now(), fmt.Appendf(nil, "line %05d\n", i))
	}
	for _, n := range []int{1, 100, 1500} {
		got, err := w.Reader().TailLines(n, 0)
		if want := int64(20_000-n) * 11; err != nil || got != want {
			t.Errorf("last %d: %d, %v, want %d", n, got, err, want)
		}
	}
}

func TestOpenOfSomethingElse(t *testing.T) {
	ident := string(append(encodeIdent(1000), encodeState(stateOpen, 0)...))
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  error
	}{
		{"empty directory", nil, fs.ErrNotExist},
		{"foreign files", map[string]string{"head.log": "x", "readme": "y"}, fs.ErrNotExist},
		{"empty meta", map[string]string{"meta": ""}, ErrFormat},
		{"foreign meta", map[string]string{"meta": strings.Repeat("x", 100)}, ErrFormat},
		{"cut meta", map[string]string{"meta": ident[:20]}, ErrFormat},
		{"meta alone", map[string]string{"meta": ident}, nil},
		{"meta without state", map[string]string{"meta": ident[:40]}, nil},
		{"empty index", map[string]string{"meta": ident, "head.idx": "", "head.log": "abc"}, nil},
		{"index of zeros", map[string]string{"meta": ident, "head.idx": strings.Repeat("\x00", 320), "head.log": "abc"}, nil},
		{"no data", map[string]string{"meta": ident, "head.idx": string(record{end: 3, pos: 3, stream: 1}.append(nil))}, nil},
		{"foreign files beside", map[string]string{"meta": ident, "tail-x.idx": "x", "tail-1.idx": "x", "record.json": "{}", "x.idx": "x"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Open(dir)
			if (err == nil) != (tt.want == nil) || !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if sealErr := Seal(dir); (sealErr == nil) != (err == nil) {
				t.Fatalf("Seal: %v", sealErr)
			}
			if err != nil {
				return
			}
			if info := stat(t, r); info != (Info{0, true}) {
				t.Errorf("%+v", info)
			}
			if chunks, next, err := r.ReadFrom(0, 100, 0); len(chunks) != 0 || next != 0 || err != nil {
				t.Errorf("%v %d %v", chunks, next, err)
			}
		})
	}
	w, dir := create(t, 0)
	w.Append(Stdout, time.Now(), []byte("kept"))
	if _, err := Create(dir, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Create: %v", err)
	}
	if info := stat(t, open(t, dir)); info.Size != 4 {
		t.Errorf("after a second Create: %+v", info)
	}
	if _, err := Create(filepath.Join(dir, "missing"), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a missing directory: %v", err)
	}
}
