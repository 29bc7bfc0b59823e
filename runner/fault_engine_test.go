package runner

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// flaky stands between a session and the real engine, and breaks what it is
// told to. The engine itself notices nothing but a client that leaves.
type flaky struct {
	t      testing.TB
	l      net.Listener
	engine string

	mu      sync.Mutex
	refuse  bool
	cut     string // a request with this in it is carried out, its answer lost; once
	open    map[net.Conn]bool
	running sync.WaitGroup
}

func newFlaky(t testing.TB) *flaky {
	t.Helper()
	c := testEngine(t)
	path, ok := strings.CutPrefix(c.DaemonHost(), "unix://")
	if !ok {
		t.Fatalf("the engine at %s is not behind a socket", c.DaemonHost())
	}
	dir, err := os.MkdirTemp("", "flaky-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{t: t, l: l, engine: path, open: map[net.Conn]bool{}}
	f.running.Go(f.serve)
	t.Cleanup(func() {
		l.Close()
		f.drop(true)
		f.running.Wait()
		os.RemoveAll(dir)
	})
	return f
}

func (f *flaky) host() string { return "unix://" + f.l.Addr().String() }

func (f *flaky) serve() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("unix", f.engine)
		f.mu.Lock()
		if err != nil || f.refuse {
			f.mu.Unlock()
			c.Close()
			if err == nil {
				up.Close()
			}
			continue
		}
		f.open[c], f.open[up] = true, true
		f.mu.Unlock()
		f.running.Go(func() { f.ask(up, c) })
		f.running.Go(func() { f.copy(c, up) })
	}
}

// ask passes requests on, and watches for the one to cut.
func (f *flaky) ask(up, c net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		f.mu.Lock()
		hit := f.cut != "" && strings.Contains(string(buf[:n]), f.cut)
		if hit {
			f.cut = ""
			c.Close()
		}
		f.mu.Unlock()
		up.Write(buf[:n])
		if err != nil {
			break
		}
	}
	up.(*net.UnixConn).CloseWrite()
}

func (f *flaky) copy(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		from.Close()
	}
	to.(*net.UnixConn).CloseWrite()
}

// drop breaks every connection, and with refuse all that come later.
func (f *flaky) drop(refuse bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
	for c := range f.open {
		c.Close()
	}
	clear(f.open)
}

// newFlakyHarness is a harness whose session sees the engine through f.
func newFlakyHarness(t testing.TB, f *flaky) *harness {
	h := newHarness(t)
	h.options.Connect = func(ctx context.Context) (Engine, error) {
		return Connect(ctx, func(key string) string {
			if key == "DOCKER_HOST" {
				return f.host()
			}
			return os.Getenv(key)
		})
	}
	return h
}

// TestEngineDropsConnections: a job whose connection breaks is lost, ended in
// its container all the same, and the session goes on.
func TestEngineDropsConnections(t *testing.T) {
	f := newFlaky(t)
	h := newFlakyHarness(t, f)
	r := h.start("echo ready; trap '' TERM; sleep 600")
	h.until(r, "text:ready")
	f.drop(false)
	if e := h.exit(r); e.Reason != ReasonLost || e.Status() != 125 || e.Error == "" || strings.Contains(e.Error, "\n") {
		t.Errorf("exit %+v", e)
	}
	h.gone(r)
	if got := h.output("echo again"); got != "again\n" {
		t.Errorf("the next job printed %q", got)
	}
}

// TestAnswerToCreateIsLost: the engine makes a container and nobody learns of
// it.
func TestAnswerToCreateIsLost(t *testing.T) {
	f := newFlaky(t)
	h := newFlakyHarness(t, f)
	h.output("true")
	f.mu.Lock()
	f.cut = "/containers/create"
	f.mu.Unlock()
	r := h.start("true")
	if e := h.exit(r); e.Reason != ReasonStartFailed || e.Status() != 125 {
		t.Errorf("exit %+v", e)
	}
	f.mu.Lock()
	cut := f.cut == ""
	f.mu.Unlock()
	if !cut {
		t.Error("nothing was cut")
	}
	if err := h.End(t.Context(), "the test"); err != nil {
		t.Error(err)
	}
	h.nothingLeft()
}

// TestEngineGoesAway: with the engine out of reach a job is lost, a new one is
// refused in one line, and the session ends.
func TestEngineGoesAway(t *testing.T) {
	f := newFlaky(t)
	h := newFlakyHarness(t, f)
	r := h.start("echo ready; sleep 600")
	h.until(r, "text:ready")
	f.drop(true)
	if e := h.exit(r); e.Reason != ReasonLost {
		t.Errorf("exit %+v", e)
	}
	_, err := h.Run(t.Context(), h.spec("true"), nil)
	if err == nil {
		t.Fatal("a job began without an engine")
	}
	if e := Explain(err); strings.Contains(e.Text, "\n") || e.Hint == "" || e.Status != 125 {
		t.Errorf("explained as %+v", e)
	}
	f.drop(false)
	h.gone(r)
}

// gone waits until a job's container is.
func (h *harness) gone(r Record) {
	h.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for len(h.containers()) > 0 {
		if time.Now().After(deadline) {
			h.t.Fatalf("the container of %s is still there", r.Handle)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestContainerRemovedByOthers has strangers remove a job's container, at once
// with our own kill: one of the removals meets the engine's 409.
func TestContainerRemovedByOthers(t *testing.T) {
	h := newHarness(t)
	r := h.start("echo ready; sleep 600")
	r = h.until(r, "text:ready")
	if err := h.eng.ContainerRemove(t.Context(), r.Container, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if e := h.exit(r); e.Reason != ReasonLost || e.Status() != 125 {
		t.Errorf("exit %+v", e)
	}

	r = h.start("echo ready; trap '' TERM; while :; do sleep 1; done")
	r = h.until(r, "text:ready")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := removeContainer(t.Context(), h.eng, r.Container); err != nil {
				t.Errorf("remove: %v", err)
			}
		})
	}
	records, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.ID}, By: "the test", Grace: 0})
	wg.Wait()
	if err != nil || records[0].Exit.Reason != ReasonKilled {
		t.Errorf("kill: %+v, %v", records, err)
	}
	h.nothingLeft()
}

// TestPausedContainer is killed although its init cannot take part.
func TestPausedContainer(t *testing.T) {
	h := newHarness(t)
	r := h.start("echo ready; sleep 600")
	r = h.until(r, "text:ready")
	if err := h.eng.ContainerPause(t.Context(), r.Container); err != nil {
		t.Fatal(err)
	}
	records, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.ID}, By: "the test", Grace: 100 * time.Millisecond})
	if err != nil || records[0].Exit.Reason != ReasonKilled {
		t.Errorf("kill: %+v, %v", records, err)
	}
	h.nothingLeft()
}

func TestConnectSaysWhatItTried(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"DOCKER_HOST": "unix://" + dir + "/none"}
	getenv := func(key string) string { return env[key] }
	var none *NoEngineError
	if _, err := Connect(t.Context(), getenv); !errors.As(err, &none) || len(none.Tried) != 1 || none.Denied() || Explain(err).Hint == "" {
		t.Errorf("no socket: %v", err)
	}
	var remote *RemoteEngineError
	for _, host := range []string{"tcp://192.0.2.1:2375", "ssh://host.example.org"} {
		env["DOCKER_HOST"] = host
		if _, err := Connect(t.Context(), getenv); !errors.As(err, &remote) {
			t.Errorf("%s: %v", host, err)
		}
	}
	delete(env, "DOCKER_HOST")
	env["DOCKER_CONFIG"] = dir
	write(t, filepath.Join(dir, "config.json"), `{"currentContext": "mine"}`)
	var invalid *InvalidError
	if _, err := Connect(t.Context(), getenv); !errors.As(err, &invalid) || invalid.Value != "mine" {
		t.Errorf("a missing context: %v", err)
	}
	// The name of a context's directory is the SHA-256 of its name.
	meta := filepath.Join(dir, "contexts", "meta", "3fd30542fe3f61b14bd4a4b2dc0b6fb30fa6f63ebce52dd1778aaa8c4dc02cff")
	if err := os.MkdirAll(meta, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(meta, "meta.json"), `{"Name": "mine", "Endpoints": {"docker": {"Host": "unix:///mine.sock"}}}`)
	if places, err := enginePlaces(getenv); err != nil || len(places) != 1 || places[0].Host != "unix:///mine.sock" {
		t.Errorf("places %+v, %v", places, err)
	}
	if EngineSetting(getenv) != "context:mine" {
		t.Errorf("setting %q", EngineSetting(getenv))
	}
	env["DOCKER_CONTEXT"] = "default"
	if places, err := enginePlaces(getenv); err != nil || places[0].Host != "unix:///var/run/docker.sock" {
		t.Errorf("places %+v, %v", places, err)
	}
}
