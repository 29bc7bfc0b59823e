package logstore

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestMain lets the test binary be the process that is killed, or that has a
// small disk of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOGSTORE_TEST_WRITER"); dir != "" {
		endlessWriter(dir)
	}
	if dir := os.Getenv("LOGSTORE_TEST_SMALL_DISK"); dir != "" {
		os.Exit(smallDisk(dir))
	}
	os.Exit(m.Run())
}

// endlessWriter writes the pattern and says on stdout how far it has come.
func endlessWriter(dir string) {
	w, err := Create(dir, 512<<10)
	if err != nil {
		panic(err)
	}
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	for {
		writePattern(w, 1+rnd.Int64N(20_000), 1500, rnd)
		fmt.Println(w.Size())
	}
}

// Whatever the moment of a kill, all that the writer reported is there, and
// what is there is right.
func TestKilledWriter(t *testing.T) {
	for i := range 8 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "LOGSTORE_TEST_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var reported int64
		for n := 0; lines.Scan(); n++ {
			if n == 1+i*20 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			_, _ = fmt.Sscan(lines.Text(), &reported) // the last line may be cut
		}
		_ = cmd.Wait()

		r := open(t, dir)
		info := stat(t, r)
		if info.Closed || info.Size < reported-20_000 || reported == 0 {
			t.Fatalf("%+v after a report of %d", info, reported)
		}
		rnd := rand.New(rand.NewPCG(5, uint64(i)))
		_, gaps := checkPattern(t, r, info.Size, rnd)
		for _, g := range gaps {
			if g.Reason != Limit {
				t.Errorf("gap %+v", g)
			}
		}
		if err := Seal(dir); err != nil {
			t.Fatal(err)
		}
		if sealed := stat(t, r); sealed != (Info{info.Size, true}) {
			t.Errorf("sealed: %+v, was %+v", sealed, info)
		}
	}
}

// Files cut anywhere give right bytes and gaps, never wrong bytes.
func TestTruncatedFiles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 6))
	for i := range 80 {
		closed := i%2 == 0
		w, dir := create(t, []int64{0, 64 << 10}[i%3%2])
		size := int64(1 + rnd.IntN(200_000))
		writePattern(w, size, 1+rnd.IntN(3000), rnd)
		w.Size() // nothing is gathered that would be written later
		if closed {
			w.Close()
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.*"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for range 1 + rnd.IntN(3) {
			f := files[rnd.IntN(len(files))]
			if rnd.IntN(10) == 0 {
				_ = os.Remove(f) // perhaps for the second time
				continue
			}
			st, err := os.Stat(f)
			if err != nil {
				continue
			}
			if err := os.Truncate(f, rnd.Int64N(st.Size()+1)); err != nil {
				t.Fatal(err)
			}
		}
		r := open(t, dir)
		info := stat(t, r)
		if info.Size > size || closed && info != (Info{size, true}) {
			t.Fatalf("%+v of %d", info, size)
		}
		checkPattern(t, r, info.Size, rnd)
		if _, err := r.TailLines(3, 0); err != nil {
			t.Error(err)
		}
		if err := Seal(dir); err != nil {
			t.Fatal(err)
		}
		if again := stat(t, r); again.Size != info.Size || !again.Closed {
			t.Errorf("%+v after Seal, %+v before", again, info)
		}
	}
}

// smallDisk runs in the child that has a file system of 1 MiB at dir.
func smallDisk(dir string) int {
	fail := func(format string, args ...any) int {
		fmt.Printf(format+"\n", args...)
		return 1
	}
	if err := mountSmallDisk(dir); err != nil {
		fmt.Println(err)
		return 77
	}
	w, err := Create(dir, 0)
	if err != nil {
		return fail("create: %v", err)
	}
	ballast := filepath.Join(dir, "ballast")
	fill := func() {
		f, err := os.Create(ballast)
		if err == nil {
			_, err = io.Copy(f, zeros{})
			f.Close()
		}
		fmt.Println("filled:", err)
	}
	off := int64(0)
	put := func(n int) {
		for range n {
			w.Append(patternStream(off), time.Now(), pattern(off, 1000))
			off += 1000
		}
	}
	put(200)
	fill()
	put(300) // part of it fits into the last page
	r := w.Reader()
	full, err := r.Stat()
	if err != nil || full.Size != off {
		return fail("while full: %+v, %v, want a size of %d", full, err, off)
	}
	other, err := Open(dir)
	if err != nil {
		return fail("open while full: %v", err)
	}
	if info, err := other.Stat(); err != nil || info != full {
		return fail("another process sees %+v, %v", info, err)
	}
	if err := os.Remove(ballast); err != nil {
		return fail("%v", err)
	}
	put(200) // it goes on
	fill()
	put(100)
	if err := w.Close(); err != nil {
		return fail("close on a full disk: %v", err)
	}
	var have, missing, cursor int64
	gaps := 0
	for c, err := range other.Chunks(0, -1, 0) {
		if err != nil {
			return fail("read: %v", err)
		}
		if c.Offset != cursor {
			return fail("chunk at %d, want %d", c.Offset, cursor)
		}
		cursor = c.End()
		if c.Gap > 0 {
			if c.Reason != Disk {
				return fail("reason %s", c.Reason)
			}
			gaps++
			missing += c.Gap
		} else if string(c.Data) != string(pattern(c.Offset, len(c.Data))) || c.Stream != patternStream(c.Offset) {
			return fail("wrong bytes at %d", c.Offset)
		}
		have += int64(len(c.Data))
	}
	info, err := other.Stat()
	if err != nil || info != (Info{off, true}) || cursor != off {
		return fail("at the end: %+v, %v, read up to %d of %d", info, err, cursor, off)
	}
	if gaps != 2 || have < 390_000 || missing < 380_000 {
		return fail("%d gaps, %d bytes, %d missing", gaps, have, missing)
	}
	fmt.Printf("%d bytes, %d missing in %d gaps\n", have, missing, gaps)
	return 0
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
