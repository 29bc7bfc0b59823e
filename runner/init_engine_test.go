package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"berth/runner/control"
	"berth/runner/logstore"
)

// buildProg builds testdata/prog, once.
var buildProg = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-prog-*")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "prog")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./testdata/prog")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &EngineError{Op: string(out), Err: err}
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := buildProg(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// withProg puts the test program into the harness's repository.
func (h *harness) withProg() *harness {
	h.t.Helper()
	path, err := buildProg()
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.repo, "prog"), data, 0o755); err != nil {
		h.t.Fatal(err)
	}
	git(h.t, h.repo, "add", ".")
	git(h.t, h.repo, "-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-qm", "prog")
	return h
}

// TestJobCannotReachItsInit runs each attack and lets it go on to a peculiar
// exit code, which must come through.
func TestJobCannotReachItsInit(t *testing.T) {
	h := newHarness(t).withProg()
	for attack, proof := range map[string]string{
		"read":    "refused: open descriptor 0",
		"trace":   "refused: ptrace attach",
		"signal":  "sent",
		"limit":   "refused: prlimit cpu",
		"flags":   "xxxx",
		"openall": "nothing found",
	} {
		t.Run(attack, func(t *testing.T) {
			h := h.in(t)
			r := h.start("trap '' HUP INT QUIT TERM USR1 USR2; ./prog attack " + attack + " || exit 1; exit 42")
			e := h.exit(r)
			out := h.text(r, 0)
			if strings.Contains(out, "BREACH") {
				t.Errorf("it succeeded:\n%s", out)
			}
			if !strings.Contains(out, proof) {
				t.Errorf("the attack did not run:\n%.2000s", out)
			}
			if e != (Exit{Reason: ReasonExited, Code: 42}) {
				t.Errorf("exit %+v\n%.2000s", e, out)
			}
			if attack == "flags" && len(out) != 8<<20 {
				t.Errorf("%d bytes of output, want %d", len(out), 8<<20)
			}
		})
	}
}

// TestJobCannotForgeItsExit prints what init would, but for the nonce.
func TestJobCannotForgeItsExit(t *testing.T) {
	h := newHarness(t)
	forged := string(control.Exited{Code: 0, Reason: control.ReasonExited}.Message().Append(control.Marker("00000000000000000000000000000000"))) +
		string(control.Message{Op: control.OpEnd}.Append(control.Marker("")))
	if err := os.WriteFile(filepath.Join(h.repo, "forged"), []byte(forged), 0o644); err != nil {
		t.Fatal(err)
	}
	r := h.start("cat forged; cat forged >&2; exit 3")
	if e := h.exit(r); e != (Exit{Reason: ReasonExited, Code: 3}) {
		t.Errorf("exit %+v", e)
	}
	for _, s := range []logstore.Stream{logstore.Stdout, logstore.Stderr} {
		if got := h.text(r, s); got != forged {
			t.Errorf("%v is %q, want %q", s, got, forged)
		}
	}
}

// TestSandbox looks at the container from inside.
func TestSandbox(t *testing.T) {
	h := newHarness(t)
	out := h.output(`grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp|SigIgn|SigBlk):' /proc/self/status; cat /proc/sys/kernel/core_pattern >/dev/null; ulimit -c
		ls /var/run/docker.sock /etc/shadow 2>&1; touch /usr/x 2>&1; mknod /tmp/dev c 1 3 2>&1; readlink /proc/self/fd/0; echo $HOME; touch $HOME/x && echo writable; id -u`)
	caps := "0000000000000000"
	if os.Getuid() == 0 {
		caps = "00000000800000fb" // rootCapabilities
	}
	for _, want := range []string{
		"CapBnd:\t" + caps, "SigIgn:\t0000000000000000", "SigBlk:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "\n0\n",
		"'/var/run/docker.sock': No such file", "'/etc/shadow': No such file", "cannot touch '/usr/x': Read-only",
		"Operation not permitted", "/dev/null", "writable",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// TestInitStaysSmall holds init to its memory: 4 MB beside each job.
func TestInitStaysSmall(t *testing.T) {
	h := newHarness(t).withProg()
	r := h.start("./prog serve 127.0.0.1:4040 x & seq 1 200000; wait", func(s *Spec) { s.Ports = []PortSpec{{Port: 4040, Proto: "tcp"}} })
	h.until(r, "http:4040/")
	_, out := h.execute(r, "grep", "VmRSS", "/proc/1/status")
	fields := strings.Fields(out)
	if len(fields) != 3 || len(fields[1]) > 4 || fields[1] > "4096" && len(fields[1]) == 4 {
		t.Errorf("init has %s resident", out)
	}
	t.Logf("init: %s", strings.TrimSpace(out))
	if _, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.ID}, By: "test"}); err != nil {
		t.Error(err)
	}
}
