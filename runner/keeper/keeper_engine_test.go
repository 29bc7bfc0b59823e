package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/runner"
	"berth/runner/logstore"
)

// TestMain lets the test binary be what the tests start: a keeper, as the
// program berth is one, and the leader of a terminal that begins a job.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "keeper":
		if err := RunDetached(context.Background(), os.Stdin, os.Stdout, "test"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case os.Getenv("BERTH_TEST_LEADER") != "":
		leadTerminal()
	}
	os.Exit(m.Run())
}

// world is a user with a repository, and nothing else of anybody's.
type world struct {
	t testing.TB
	Caller
	eng *client.Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	eng, err := runner.Connect(t.Context(), os.Getenv)
	if err != nil {
		if os.Getenv("BERTH_TEST_ENGINE") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(dir, "repo")
	if out, err := exec.Command("git", "init", "-q", repo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w := &world{t: t, eng: eng, Caller: Caller{
		Dirs:    configs.Dirs{State: filepath.Join(dir, "state"), Cache: filepath.Join(dir, "cache")},
		Getenv:  os.Getenv,
		Dir:     repo,
		Session: "test",
		Version: "test",
	}}
	t.Cleanup(func() {
		w.endAll()
		if n := len(w.containers()); n > 0 {
			t.Errorf("%d containers are left", n)
		}
		eng.Close()
	})
	return w
}

// endAll ends every session that still lives.
func (w *world) endAll() {
	sessions, err := runner.StateDir(w.Dirs.State).Sessions()
	if err != nil {
		w.t.Error(err)
	}
	for _, s := range sessions {
		if s.Live {
			c := Dial(s)
			if err := c.End(context.Background(), "the test"); err != nil {
				w.t.Error(err)
			}
			c.Close()
		}
	}
}

func (w *world) containers() []container.Summary {
	w.t.Helper()
	list, err := w.eng.ContainerList(context.Background(), container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", runner.LabelOwner+"="+runner.StateDir(w.Dirs.State).Owner())),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) volumes() int {
	w.t.Helper()
	ours := filters.Arg("label", runner.LabelOwner+"="+runner.StateDir(w.Dirs.State).Owner())
	list, err := w.eng.VolumeList(context.Background(), volume.ListOptions{Filters: filters.NewArgs(ours)})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list.Volumes)
}

// eventually waits for what no event tells of.
func eventually(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !holds() {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("after 30 s still not: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(begun)
}

func (w *world) begin() *Client {
	w.t.Helper()
	c, err := w.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) run(s runner.Service, line string) runner.Record {
	w.t.Helper()
	r, err := s.Run(w.t.Context(), runner.Spec{Argv: runner.Shell(line), Dir: w.Dir, Caller: os.Environ()}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) until(s runner.Service, r runner.Record, condition string) runner.Waited {
	w.t.Helper()
	c, err := runner.ParseCondition(condition)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	result, err := s.Wait(ctx, runner.WaitRequest{Jobs: []string{r.ID}, Until: c})
	if err != nil {
		w.t.Fatal(err)
	}
	if got := result.Jobs[0]; got.Matched != condition {
		w.t.Fatalf("%s ended (%v) before %s", r.Handle, got.Record.Exit, condition)
	}
	return result.Jobs[0]
}

const stubborn = `trap '' TERM; (setsid sh -c 'trap "" TERM; while :; do sleep 1; done' &); echo ready; while :; do sleep 1; done`

// TestKilledKeeperLeavesNothing kills a keeper with SIGKILL while ten jobs run
// that resist, and looks while no process of berth runs.
func TestKilledKeeperLeavesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.begin()
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var records []runner.Record
	for range 10 {
		records = append(records, w.run(c, stubborn))
	}
	for _, r := range records {
		w.until(c, r, "text:ready")
	}
	if n, v := len(w.containers()), w.volumes(); n != 10 || v != 10 {
		t.Fatalf("%d containers run with %d volumes, want 10 each", n, v)
	}
	if err := unix.Kill(info.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, "all containers and volumes are gone", func() bool { return len(w.containers()) == 0 && w.volumes() == 0 })
	t.Logf("nothing left %v after kill -9", took.Round(time.Millisecond))

	report, err := runner.Sweep(t.Context(), w.Dirs, runner.EngineSetting(os.Getenv), func(ctx context.Context) (runner.Engine, error) { return runner.Connect(ctx, os.Getenv) }, false)
	if err != nil || len(report.Sessions) != 1 {
		t.Fatalf("sweep: %+v, %v", report, err)
	}
	sessions, err := runner.StateDir(w.Dirs.State).Sessions()
	if err != nil || len(sessions) != 1 || sessions[0].Live {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	swept, err := sessions[0].Jobs()
	if err != nil || len(swept) != 10 {
		t.Fatalf("%d records, %v", len(swept), err)
	}
	for _, r := range swept {
		if r.State != runner.Ended || r.Exit == nil || r.Exit.Reason != runner.ReasonKilled {
			t.Errorf("%s is %v %+v", r.Handle, r.State, r.Exit)
		}
		log, err := logstore.Open(r.LogDir())
		if err != nil {
			t.Fatal(err)
		}
		if chunks, _, err := log.ReadFrom(0, 100, 0); err != nil || string(chunks[0].Data) != "ready\n" {
			t.Errorf("the log of %s is not readable: %v", r.Handle, err)
		}
		entries, _ := os.ReadDir(r.Dirname)
		if len(entries) != 3 { // record, log, result
			t.Errorf("%s has left %v", r.Handle, entries)
		}
	}
	if _, err := c.List(t.Context()); !errors.As(err, new(*runner.EndedError)) {
		t.Errorf("a call to a dead keeper gives %v", err)
	}
}

// TestBeginWhileASessionEnds gets a new one, and does not get the dying one.
func TestBeginWhileASessionEnds(t *testing.T) {
	w := newWorld(t)
	c := w.begin()
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.until(c, w.run(c, stubborn), "text:ready")
	ended := make(chan error, 1)
	go func() { ended <- c.End(context.Background(), "the test") }()
	eventually(t, "the session is ending", func() bool { _, err := c.Info(t.Context()); return err != nil })
	for range 2 {
		second := w.begin()
		again, err := second.Info(t.Context())
		if err != nil || again.ID == info.ID {
			t.Errorf("session %s, %v, while %s ends", again.ID, err, info.ID)
		}
		w.until(second, w.run(second, "true"), "exit")
	}
	if sessions, err := runner.StateDir(w.Dirs.State).Sessions(); err != nil || len(sessions) != 2 {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestExecOfAClientThatLeaves leaves nothing in the keeper that keeps its lease.
func TestExecOfAClientThatLeaves(t *testing.T) {
	w := newWorld(t)
	s, err := w.Own(t.Context(), runner.Owner{Kind: runner.OwnerProcess})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), s) }()
	r := w.run(s, "sleep 600")
	w.until(s, r, "quiet:1ms")
	info, err := runner.StateDir(w.Dirs.State).Session(filepath.Base(s.Dir()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	zeros, feed := io.Pipe()
	go func() {
		for {
			if _, err := feed.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	defer zeros.Close()
	started := make(chan struct{})
	go func() {
		_, err := Dial(info).Exec(ctx, runner.ExecRequest{Job: r.ID, Argv: runner.Shell("echo on; exec sleep 600"), Stdin: true},
			runner.ExecIO{Stdin: zeros, Stdout: writerFunc(func([]byte) { close(started) }), Stderr: io.Discard})
		left <- err
	}()
	<-started
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("exec: %v", err)
	}
	eventually(t, "the keeper has noticed", func() bool { idle, _ := s.Idle(); return idle > 0 })
	if err := s.End(t.Context(), "the test"); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestOneKeeperForOneSession begins a session from many places at once.
func TestOneKeeperForOneSession(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	ids := make([]string, 12)
	for i := range ids {
		wg.Go(func() {
			c, err := w.Begin(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			info, err := c.Info(t.Context())
			if err != nil {
				t.Error(err)
			}
			ids[i] = info.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("two sessions were begun: %v", ids)
		}
	}
}

// TestClientMeetsTheService goes through every call on the far side of a
// socket.
func TestClientMeetsTheService(t *testing.T) {
	w := newWorld(t)
	c := w.begin()
	r := w.run(c, `echo out; echo err >&2; read -r x < /dev/null; until [ -e /tmp/go ]; do sleep 0.05; done; exit 5`)
	w.until(c, r, "text:err")
	var out, errs strings.Builder
	code, err := c.Exec(t.Context(), runner.ExecRequest{Job: r.Handle, Argv: runner.Shell("cat; echo problem >&2; touch /tmp/go; exit 6"), Stdin: true},
		runner.ExecIO{Stdin: strings.NewReader(strings.Repeat("input\n", 50_000)), Stdout: &out, Stderr: &errs})
	if err != nil || code != 6 || out.Len() != 300_000 || errs.String() != "problem\n" {
		t.Errorf("exec: %d, %v, %d bytes, %q", code, err, out.Len(), errs.String())
	}
	if e := w.until(c, r, "exit").Record.Exit; e.Code != 5 {
		t.Errorf("exit %+v", e)
	}
	log, err := c.Log(t.Context(), r.Handle)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := log.Stat(); err != nil || info.Size != 8 || !info.Closed {
		t.Errorf("log %+v, %v", info, err)
	}
	raw := w.run(c, "printf '%s' '\xff\x01é'")
	w.until(c, raw, "exit")
	if log, err := c.Log(t.Context(), raw.ID); err != nil {
		t.Error(err)
	} else if chunks, _, err := log.ReadFrom(0, 100, 0); err != nil || len(chunks) != 1 || string(chunks[0].Data) != "\xff\x01é" {
		t.Errorf("an argument that is not UTF-8 arrived as %+v, %v", chunks, err)
	}
	slow := w.run(c, "sleep 600")
	w.until(c, slow, "quiet:10ms")
	if err := c.Signal(t.Context(), slow.ID, int(unix.SIGCONT)); err != nil {
		t.Error(err)
	}
	if records, err := c.Kill(t.Context(), runner.KillRequest{All: true, By: "the test"}); err != nil || len(records) != 1 || records[0].Exit.By != "the test" {
		t.Errorf("kill: %+v, %v", records, err)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("list: %+v, %v", list, err)
	}
	var told *runner.Explained
	if _, err := c.Get(t.Context(), "slep-1"); !errors.As(err, &told) || told.Hint != "did you mean sleep-1?" || told.Status != runner.StatusFailed {
		t.Errorf("an unknown job gives %#v", err)
	}
	if _, err := c.Run(t.Context(), runner.Spec{Argv: []string{"true"}, Dir: w.Dir, Ref: "none"}, nil); !errors.As(err, &told) || told.Hint == "" {
		t.Errorf("an unknown ref gives %#v", err)
	}
	if err := c.End(t.Context(), "the test"); err != nil {
		t.Error(err)
	}
	eventually(t, "the keeper's session is over", func() bool {
		_, ok, err := w.Current(t.Context())
		return !ok && err == nil
	})
}

// TestSessionEndsWithItsProcess has a session owned by a process that dies.
func TestSessionEndsWithItsProcess(t *testing.T) {
	w := newWorld(t)
	owner := exec.Command("sleep", "600")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := w.Own(t.Context(), runner.Owner{Kind: runner.OwnerProcess, PID: owner.Process.Pid, Started: processStarted(owner.Process.Pid)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- Serve(t.Context(), s) }()
	r := w.run(s, "echo ready; sleep 600")
	w.until(s, r, "text:ready")
	owner.Process.Kill()
	owner.Wait()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if n := len(w.containers()); n > 0 {
		t.Errorf("%d containers are left", n)
	}
	r, _ = s.Get(t.Context(), r.ID)
	if r.Exit.Reason != runner.ReasonKilled || r.Exit.By != "the end of the session's owner" {
		t.Errorf("exit %+v", r.Exit)
	}
}

// TestSessionEndsWithItsLease has a lease of a moment.
func TestSessionEndsWithItsLease(t *testing.T) {
	t.Parallel() // it waits for longer than it works
	w := newWorld(t)
	w.Getenv = func(key string) string {
		if key == "BERTH_LEASE" {
			return "300ms"
		}
		return os.Getenv(key)
	}
	c := w.begin()
	w.until(c, w.run(c, "true"), "exit")
	eventually(t, "the session has ended", func() bool {
		sessions, err := runner.StateDir(w.Dirs.State).Sessions()
		return err == nil && len(sessions) == 1 && !sessions[0].Ended.IsZero()
	})
}

// leadTerminal is the leader of a terminal session: it begins a job in the
// session that its terminal means, says so, and stays.
func leadTerminal() {
	var w Caller
	if err := json.Unmarshal([]byte(os.Getenv("BERTH_TEST_LEADER")), &w.Dirs); err != nil {
		panic(err)
	}
	w.Dir, w.Getenv, w.Version = os.Getenv("BERTH_TEST_REPO"), os.Getenv, "test"
	c, err := w.Begin(context.Background())
	if err != nil {
		panic(err)
	}
	r, err := c.Run(context.Background(), runner.Spec{Argv: runner.Shell(stubborn), Dir: w.Dir, Caller: os.Environ()}, nil)
	if err != nil {
		panic(err)
	}
	ready := runner.WaitRequest{Jobs: []string{r.ID}, Until: runner.Condition{Kind: "text", Text: "ready"}}
	if _, err := c.Wait(context.Background(), ready); err != nil {
		panic(err)
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP) // which whoever runs the tests may have ignored
	fmt.Println("begun")
	<-hangup
	os.Exit(0)
}

// TestSocketOfALongPath has a state directory too deep for a socket.
func TestSocketOfALongPath(t *testing.T) {
	w := newWorld(t)
	w.Dirs.State = filepath.Join(w.Dirs.State, strings.Repeat("deep/", 25))
	c := w.begin()
	w.until(c, w.run(c, "true"), "exit")
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(info.Socket); err != nil || st.Mode().Perm() != 0o600 || len(info.Socket) > longestPath {
		t.Errorf("socket %s: %v", info.Socket, err)
	}
	if err := c.End(t.Context(), "the test"); err != nil {
		t.Error(err)
	}
	eventually(t, "the socket's directory is gone", func() bool {
		_, err := os.Stat(filepath.Dir(info.Socket))
		return errors.Is(err, fs.ErrNotExist)
	})
}
