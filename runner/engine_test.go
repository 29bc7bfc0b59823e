package runner

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"berth/configs"
	"berth/runner/logstore"
)

// The tests in files named *_engine_test.go run real jobs on the engine of this
// machine. Without one they are skipped, unless BERTH_TEST_ENGINE is
// "required", as in `make test`.

// testEngine connects with the engine.
func testEngine(t testing.TB) *client.Client {
	t.Helper()
	c, err := Connect(t.Context(), os.Getenv)
	if err != nil {
		if os.Getenv("BERTH_TEST_ENGINE") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// harness is a session of a test's own, in a repository of its own.
type harness struct {
	*Session
	t    testing.TB
	eng  *client.Client
	dirs configs.Dirs
	repo string
}

// newHarness begins a session. When the test is over it ends it, and checks
// that nothing is left on the engine.
func newHarness(t testing.TB) *harness { return newHarnessIn(t, testDirs(t)) }

func newHarnessIn(t testing.TB, dirs configs.Dirs) *harness {
	t.Helper()
	h := &harness{t: t, eng: testEngine(t), repo: testRepo(t), dirs: dirs}
	knowProbe(t, dirs)
	var err error
	h.Session, err = NewSession(Options{
		Dirs:    h.dirs,
		Version: "test",
		Connect: func(ctx context.Context) (Engine, error) { return Connect(ctx, os.Getenv) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Publish(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.End(context.Background(), "the test"); err != nil {
			t.Errorf("end: %v", err)
		}
		h.nothingLeft()
	})
	return h
}

// knownProbe is the file in which an engine's probe is remembered.
var knownProbe struct {
	sync.Once
	name string
	data []byte
}

// knowProbe spares a session the trying out of overlay file systems: once is enough.
func knowProbe(t testing.TB, dirs configs.Dirs) {
	t.Helper()
	knownProbe.Do(func() {
		first := testDirs(t)
		if _, err := Probe(t.Context(), testEngine(t), first, false); err != nil {
			t.Fatal(err)
		}
		found, err := filepath.Glob(filepath.Join(first.Cache, "overlay-*.json"))
		if err == nil && len(found) == 1 {
			knownProbe.name = filepath.Base(found[0])
			knownProbe.data, err = os.ReadFile(found[0])
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if knownProbe.name == "" {
		return
	}
	if err := errors.Join(os.MkdirAll(dirs.Cache, 0o700), os.WriteFile(filepath.Join(dirs.Cache, knownProbe.name), knownProbe.data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// in gives the same harness to a subtest.
func (h *harness) in(t testing.TB) *harness {
	sub := *h
	sub.t = t
	return &sub
}

func testDirs(t testing.TB) configs.Dirs {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return configs.Dirs{State: filepath.Join(dir, "state"), Cache: filepath.Join(dir, "cache")}
}

// testRepo makes a repository with one commit.
func testRepo(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "hello.txt"), "hello\n")
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", ".")
	git(t, dir, "-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-qm", "first")
	return dir
}

func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// containers lists what is on the engine of this harness's owner.
func (h *harness) containers() []container.Summary {
	h.t.Helper()
	list, err := h.eng.ContainerList(context.Background(), container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", LabelOwner+"="+StateDir(h.dirs.State).Owner())),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func (h *harness) nothingLeft() {
	h.t.Helper()
	for _, c := range h.containers() {
		h.t.Errorf("container %s is left (%s)", c.Names[0], c.Status)
	}
}

func (h *harness) spec(argv ...string) Spec {
	return Spec{Argv: argv, Dir: h.repo, Caller: os.Environ()}
}

// start begins a job that runs a line of shell.
func (h *harness) start(line string, change ...func(*Spec)) Record {
	h.t.Helper()
	spec := h.spec(Shell(line)...)
	for _, c := range change {
		c(&spec)
	}
	r, err := h.Run(h.t.Context(), spec, nil)
	if err != nil {
		h.t.Fatalf("run %q: %v", line, err)
	}
	return r
}

// until waits for a condition, and fails the test when the job ends first or
// nothing happens for a minute.
func (h *harness) until(r Record, condition string) Record {
	h.t.Helper()
	c, err := ParseCondition(condition)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	result, err := h.Wait(ctx, WaitRequest{Jobs: []string{r.ID}, Until: c})
	if err != nil {
		h.t.Fatalf("wait for %s of %s: %v\n%s", condition, r.Handle, err, h.text(r, 0))
	}
	if w := result.Jobs[0]; w.Matched != condition {
		h.t.Fatalf("%s ended (%v) before %s:\n%s", r.Handle, w.Record.Exit, condition, h.text(r, 0))
	}
	return result.Jobs[0].Record
}

// exit waits for a job's end.
func (h *harness) exit(r Record) Exit {
	h.t.Helper()
	return *h.until(r, "exit").Exit
}

// text is a job's output so far, of one stream or both.
func (h *harness) text(r Record, s logstore.Stream) string {
	h.t.Helper()
	reader, err := h.Log(context.Background(), r.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return readLog(h.t, reader, s)
}

func readLog(t testing.TB, reader *logstore.Reader, s logstore.Stream) string {
	t.Helper()
	var b strings.Builder
	for c, err := range reader.Chunks(0, -1, s) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Gap > 0 {
			t.Fatalf("%d bytes are missing at %d (%v)", c.Gap, c.Offset, c.Reason)
		}
		b.Write(c.Data)
	}
	return b.String()
}

// output runs a line to its end and returns what it printed; it must succeed.
func (h *harness) output(line string, change ...func(*Spec)) string {
	h.t.Helper()
	r := h.start(line, change...)
	if e := h.exit(r); !e.OK() {
		h.t.Fatalf("%q: %v\n%s", line, e, h.text(r, 0))
	}
	return h.text(r, logstore.Stdout)
}

// execute runs a command in a job's container.
func (h *harness) execute(r Record, argv ...string) (int, string) {
	h.t.Helper()
	var out strings.Builder
	code, err := h.Exec(h.t.Context(), ExecRequest{Job: r.ID, Argv: argv}, ExecIO{Stdout: &out, Stderr: io.Discard})
	if err != nil {
		h.t.Fatalf("exec %v: %v", argv, err)
	}
	return code, out.String()
}
