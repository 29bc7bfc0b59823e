package runner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"berth/runner/logstore"
)

// oldID is the ID of a session that nobody can be about to begin.
func oldID() string {
	return ulid.MustNew(ulid.Timestamp(time.Now().Add(-time.Hour)), ulid.DefaultEntropy()).String()
}

// TestSweepOfADirtyStateDirectory has everything in it that a crash, a full
// disk or a curious user can leave.
func TestSweepOfADirtyStateDirectory(t *testing.T) {
	eng := testEngine(t)
	dirs := testDirs(t)
	sessions := filepath.Join(dirs.State, sessionsDir)
	mkdir := func(path ...string) string {
		t.Helper()
		dir := filepath.Join(append([]string{sessions}, path...)...)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}

	foreign := mkdir("not-ours")
	write(t, filepath.Join(foreign, "file"), "kept\n")
	write(t, filepath.Join(sessions, "a-file"), "kept\n")
	bare := mkdir(oldID())               // died before it wrote anything
	young := mkdir(ulid.Make().String()) // may be about to

	// The description is half of one, one job's record is empty, and another's
	// says that it runs.
	damaged := oldID()
	write(t, filepath.Join(mkdir(damaged), sessionFile), `{"id": "`)
	noRecord := mkdir(damaged, jobsDir, oldID())
	write(t, filepath.Join(noRecord, recordFile), "")
	write(t, filepath.Join(mkdir(damaged, jobsDir, filepath.Base(noRecord), tmpDir), "file"), "goes\n")
	running := Record{ID: oldID(), Handle: "web", State: Running}
	running.Dirname = mkdir(damaged, jobsDir, running.ID)
	if err := os.Mkdir(running.LogDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := logstore.Create(running.LogDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Append(logstore.Stdout, time.Now(), []byte("said\n"))
	w.Close()
	if err := saveRecord(running); err != nil {
		t.Fatal(err)
	}
	locked := mkdir(damaged, jobsDir, running.ID, homeDir, "closed")
	if err := os.Chmod(locked, 0o500); err != nil {
		t.Fatal(err)
	}

	connect := func(context.Context) (Engine, error) { return eng, nil }
	report, err := Sweep(t.Context(), dirs, "", connect, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Sessions) != 2 {
		t.Errorf("swept %v, want two", report.Sessions)
	}
	for _, path := range []string{bare, filepath.Join(noRecord, tmpDir), filepath.Join(running.Dirname, homeDir)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range []string{young, filepath.Join(foreign, "file"), filepath.Join(sessions, "a-file")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	info, err := StateDir(dirs.State).Session(damaged)
	if err != nil || info.Ended.IsZero() {
		t.Fatalf("the damaged session is %+v, %v", info, err)
	}
	records, err := info.Jobs()
	if err != nil || len(records) != 1 || records[0].State != Ended || records[0].Exit.Reason != ReasonKilled {
		t.Fatalf("records %+v, %v", records, err)
	}
	log, err := logstore.Open(records[0].LogDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := readLog(t, log, 0); got != "said\n" {
		t.Errorf("the log holds %q", got)
	}
	if report, err = Sweep(t.Context(), dirs, "", connect, false); err != nil || len(report.Sessions) > 0 {
		t.Errorf("a second sweep finds %+v, %v", report, err)
	}
}
