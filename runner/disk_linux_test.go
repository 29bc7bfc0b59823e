package runner

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSessionEndsOnAFullDisk has a job end, and its session, while nothing can
// be written. When there is room again the sweep completes what is missing.
func TestSessionEndsOnAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it takes root to mount a small disk")
	}
	dirs := testDirs(t)
	if err := os.MkdirAll(dirs.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dirs.State, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dirs.State, 0); err != nil {
			t.Error(err)
		}
	})
	h := newHarnessIn(t, dirs)
	r := h.start("echo ready; until [ -e /tmp/go ]; do sleep 0.05; done; seq 100000; exit 3")
	r = h.until(r, "text:ready")
	// Its own /tmp is on the same disk, so the sign comes before the flood.
	if code, _ := h.execute(r, "touch", "/tmp/go"); code != 0 {
		t.Fatal("touch failed")
	}
	fill := filepath.Join(dirs.State, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	f.Close()
	if e := h.exit(r); e.Code != 3 || e.Reason != ReasonExited {
		t.Errorf("exit %+v", e)
	}
	endErr := h.End(t.Context(), "the test")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if _, err := Sweep(t.Context(), dirs, "", h.options.Connect, false); err != nil {
		t.Fatal(err)
	}
	info, err := StateDir(dirs.State).Session(filepath.Base(h.Dir()))
	if err != nil || info.Ended.IsZero() {
		t.Fatalf("session %+v, %v", info, err)
	}
	records, err := info.Jobs()
	if err != nil || len(records) != 1 || records[0].State != Ended || records[0].Exit == nil {
		t.Errorf("records %+v, %v (the end said %v)", records, err, endErr)
	}
}
