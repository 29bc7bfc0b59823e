package runner

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/configs"
	"berth/runner/logstore"
	"berth/worktree"
)

func TestJobRunsToItsEnd(t *testing.T) {
	h := newHarness(t)
	r := h.start(`cat hello.txt; echo problem >&2; exit 7`)
	if r.State != Preparing || r.Handle != "cat-1" {
		t.Errorf("begun as %+v", r)
	}
	if e := h.exit(r); e != (Exit{Reason: ReasonExited, Code: 7}) {
		t.Errorf("exit %+v", e)
	}
	if got := h.text(r, logstore.Stdout); got != "hello\n" {
		t.Errorf("stdout %q", got)
	}
	if got := h.text(r, logstore.Stderr); got != "problem\n" {
		t.Errorf("stderr %q", got)
	}
}

// TestHowJobsEnd has a line for every way that init reports.
func TestHowJobsEnd(t *testing.T) {
	h := newHarness(t)
	write(t, filepath.Join(h.repo, "plain"), "no program\n")
	for _, test := range []struct {
		argv    []string
		timeout time.Duration
		want    Exit
		status  int
	}{
		{argv: Shell("true"), want: Exit{Reason: ReasonExited}},
		{argv: Shell("exit 200"), want: Exit{Reason: ReasonExited, Code: 200}, status: 200},
		{argv: Shell("kill -SEGV $$"), want: Exit{Reason: ReasonExited, Code: 139, Signal: 11}, status: 139},
		{argv: Shell("kill -KILL $$"), want: Exit{Reason: ReasonExited, Code: 137, Signal: 9}, status: 137},
		{argv: []string{"no-such-command"}, want: Exit{Reason: ReasonStartFailed, Code: 127, Error: "no-such-command: command not found"}, status: 127},
		{argv: []string{"./no-such-file"}, want: Exit{Reason: ReasonStartFailed, Code: 127, Error: "./no-such-file: no such file"}, status: 127},
		{argv: []string{"./plain"}, want: Exit{Reason: ReasonStartFailed, Code: 126, Error: "./plain: not an executable file"}, status: 126},
		{argv: []string{"/tmp"}, want: Exit{Reason: ReasonStartFailed, Code: 126, Error: "/tmp: not an executable file"}, status: 126},
		{argv: []string{"sleep", "600"}, timeout: 100 * time.Millisecond, want: Exit{Reason: ReasonTimeout, Code: 143, Signal: 15}, status: 124},
		{argv: Shell("trap 'exit 0' TERM; sleep 600 & wait"), timeout: 300 * time.Millisecond, want: Exit{Reason: ReasonTimeout}, status: 124},
		// What the command leaves running is ended with it.
		{argv: Shell("sleep 600 & setsid sleep 600 & exit 4"), want: Exit{Reason: ReasonExited, Code: 4}, status: 4},
	} {
		t.Run(fmt.Sprint(test.argv), func(t *testing.T) {
			spec := h.spec(test.argv...)
			spec.Timeout = test.timeout
			r, err := h.Run(t.Context(), spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			e := h.exit(r)
			if e != test.want {
				t.Errorf("exit %+v, want %+v", e, test.want)
			}
			if e.Status() != test.status {
				t.Errorf("status %d, want %d", e.Status(), test.status)
			}
		})
	}
}

// TestOutputIsByteExact writes 50 MB of random bytes, half on each stream, at
// once, and compares them with what the job kept in its /tmp.
func TestOutputIsByteExact(t *testing.T) {
	h := newHarness(t)
	r := h.start(`head -c 26214400 /dev/urandom > /tmp/1; head -c 26214399 /dev/urandom > /tmp/2; cat /tmp/1 & cat /tmp/2 >&2; wait`)
	if e := h.exit(r); !e.OK() {
		t.Fatalf("exit %+v", e)
	}
	reader, err := h.Log(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	for s, name := range map[logstore.Stream]string{logstore.Stdout: "1", logstore.Stderr: "2"} {
		got, want := sha256.New(), sha256.New()
		for c, err := range reader.Chunks(0, -1, s) {
			if err != nil || c.Gap > 0 {
				t.Fatal(err, c.Gap)
			}
			got.Write(c.Data)
		}
		f, err := os.Open(filepath.Join(r.Dirname, tmpDir, name))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(want, f)
		f.Close()
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Errorf("%v differs from what was written", s)
		}
	}
}

// TestShortJobsLoseNothing is about the last bytes of many quick jobs, which
// are where engines lose output.
func TestShortJobsLoseNothing(t *testing.T) {
	h := newHarness(t)
	jobs := 100
	if testing.Short() {
		jobs = 20
	}
	limit := make(chan struct{}, 6)
	var wg sync.WaitGroup
	for i := range jobs {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			r, err := h.Run(t.Context(), h.spec(Shell(fmt.Sprintf(`printf 'out\n%d'; printf 'err\n%d' >&2; exit %d`, i, i, i))...), nil)
			if err != nil {
				t.Error(err)
				return
			}
			e := h.exit(r)
			if out, err := h.text(r, logstore.Stdout), h.text(r, logstore.Stderr); e.Code != i || e.Reason != ReasonExited ||
				out != fmt.Sprintf("out\n%d", i) || err != fmt.Sprintf("err\n%d", i) {
				t.Errorf("job %d: exit %+v, stdout %q, stderr %q", i, e, out, err)
			}
		})
	}
	wg.Wait()
}

// TestKillLeavesNothing ends a job that resists in every way it can.
func TestKillLeavesNothing(t *testing.T) {
	h := newHarness(t)
	r := h.start(`trap '' TERM INT HUP
		(trap '' TERM; setsid sh -c 'trap "" TERM; while :; do sleep 1; done' &)
		sh -c 'trap "" TERM; sleep 1000 & wait' &
		echo ready; while :; do sleep 1; done`)
	h.until(r, "text:ready")
	begun := time.Now()
	records, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.Handle}, By: "the test", Grace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("gone %v after the grace", time.Since(begun)-time.Second)
	want := Exit{Reason: ReasonKilled, Code: 137, Signal: 9, By: "the test"}
	if e := records[0].Exit; *e != want || !records[0].Gone {
		t.Errorf("killed as %+v (gone %v), want %+v", *e, records[0].Gone, want)
	}
	h.nothingLeft()
}

// TestKillWhilePreparing ends jobs at every moment of their beginning.
func TestKillWhilePreparing(t *testing.T) {
	h := newHarness(t)
	var wg sync.WaitGroup
	for i := range 8 {
		r := h.start("sleep 600")
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 25 * time.Millisecond) // spreads the kills; none of them depends on it
			records, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.ID}, By: "the test"})
			if err != nil || records[0].Exit == nil || records[0].Exit.Reason != ReasonKilled {
				t.Errorf("kill: %v, %+v", err, records[0].Exit)
			}
		})
	}
	wg.Wait()
	h.nothingLeft()
}

func TestSignalReachesEveryProcess(t *testing.T) {
	h := newHarness(t)
	r := h.start(`sh -c 'trap "echo child; exit" USR1; echo one; while :; do sleep 0.1; done' & trap 'echo parent' USR1; echo two; wait; wait`)
	h.until(r, "text:one")
	h.until(r, "text:two")
	if err := h.Signal(t.Context(), r.ID, 10); err != nil {
		t.Fatal(err)
	}
	h.until(r, "text:child")
	h.until(r, "text:parent")
}

// TestPorts runs twenty servers that all want port 4040 of the container's
// loopback, and reaches each.
func TestPorts(t *testing.T) {
	h := newHarness(t).withProg()
	n := 20
	if testing.Short() {
		n = 6
	}
	var wg sync.WaitGroup
	hosts := make([]string, n)
	for i := range n {
		text := fmt.Sprintf("server %d", i)
		r, err := h.Run(t.Context(), Spec{Argv: []string{"./prog", "serve", "127.0.0.1:4040", text}, Dir: h.repo, Caller: os.Environ(), Ports: []PortSpec{{Port: 4040, Proto: "tcp"}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			r = h.until(r, "http:4040/")
			hosts[i] = r.Ports[0].Host
			if got := get(t, "http://"+hosts[i]); got != text+"\n" {
				t.Errorf("%s answers %q, want %q", hosts[i], got, text)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, host := range hosts {
		if seen[host] || !strings.HasPrefix(host, "127.0.0.1:") {
			t.Errorf("hosts %v", hosts)
		}
		seen[host] = true
	}
	if _, err := h.Kill(t.Context(), KillRequest{All: true, By: "the test", Grace: time.Second}); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

// TestForwardedPortKeepsHalfCloses sends megabytes, closes its side and reads
// them back.
func TestForwardedPortKeepsHalfCloses(t *testing.T) {
	h := newHarness(t).withProg()
	for _, address := range []string{"127.0.0.1:7", "0.0.0.0:7", "[::]:7"} {
		r := h.start("exec ./prog echo "+address, func(s *Spec) { s.Ports = []PortSpec{{Port: 7, Proto: "tcp"}} })
		r = h.until(r, "port:7")
		conn, err := net.Dial("tcp", r.Ports[0].Host)
		if err != nil {
			t.Fatal(err)
		}
		sent := bytes.Repeat([]byte("0123456789"), 500_000)
		go func() {
			conn.Write(sent)
			conn.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %d bytes came back, %v", address, len(got), err)
		}
		if _, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.ID}, By: "the test"}); err != nil {
			t.Error(err)
		}
	}
}

func TestPortsThatCannotBeHad(t *testing.T) {
	h := newHarness(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	spec := h.spec("true")
	spec.Ports = []PortSpec{{Port: 80, Host: port, Proto: "tcp"}}
	var taken *PortTakenError
	if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &taken) {
		t.Errorf("a taken port gives %v", err)
	}
	// Wanted, but not insisted on: another is found.
	r := h.start("sleep 600", func(s *Spec) { s.Ports = []PortSpec{{Port: port, Proto: "tcp"}} })
	h.until(r, "quiet:100ms")
	r, _ = h.Get(t.Context(), r.ID)
	if len(r.Ports) != 1 || r.Ports[0].Host == "" || strings.HasSuffix(r.Ports[0].Host, fmt.Sprintf(":%d", port)) {
		t.Errorf("published as %+v", r.Ports)
	}
	if _, err := h.Kill(t.Context(), KillRequest{All: true, By: "the test"}); err != nil {
		t.Error(err)
	}
}

// TestConditions checks that what happened before the wait began counts, and
// that the end of the job ends every wait.
func TestConditions(t *testing.T) {
	h := newHarness(t)
	r := h.start(`echo first; printf 'prompt> '; echo; echo last`)
	h.exit(r)
	h.until(r, "text:^first$")
	h.until(r, "text:^prompt> $")
	for _, condition := range []string{"text:never", "port:9", "quiet:10m"} {
		c, err := ParseCondition(condition)
		if err != nil {
			t.Fatal(err)
		}
		result, err := h.Wait(t.Context(), WaitRequest{Jobs: []string{r.ID}, Until: c})
		if err != nil || result.Jobs[0].Matched != "exit" {
			t.Errorf("%s: %+v, %v", condition, result, err)
		}
	}
	slow := h.start("sleep 600")
	result, err := h.Wait(t.Context(), WaitRequest{Jobs: []string{slow.ID, r.ID}, Any: true})
	if err != nil || len(result.Jobs) != 1 || result.Jobs[0].Record.ID != r.ID {
		t.Errorf("any: %+v, %v", result, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Wait(ctx, WaitRequest{Jobs: []string{slow.ID}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a wait that ran out gives %v", err)
	}
	if _, err := h.Kill(t.Context(), KillRequest{All: true, By: "the test"}); err != nil {
		t.Error(err)
	}
}

func TestExecAndKeep(t *testing.T) {
	h := newHarness(t)
	codes := h.start("sleep 600")
	h.until(codes, "quiet:1ms")
	for command, want := range map[string]int{"no-such-command": 127, "/tmp": 126, "true": 0} {
		var errs strings.Builder
		code, err := h.Exec(t.Context(), ExecRequest{Job: codes.ID, Argv: []string{command}}, ExecIO{Stdout: io.Discard, Stderr: &errs})
		if code != want || err != nil || (want != 0) != strings.HasPrefix(errs.String(), "berth: "+command) {
			t.Errorf("exec %s: %d, %v, %q", command, code, err, errs.String())
		}
	}
	if _, err := h.Kill(t.Context(), KillRequest{Jobs: []string{codes.ID}, By: "the test"}); err != nil {
		t.Fatal(err)
	}
	r := h.start(`echo made > /tmp/file; exit 3`, func(s *Spec) { s.Keep, s.Env = true, []string{"COLOUR=blue"} })
	h.exit(r)
	if code, out := h.execute(r, "sh", "-c", "cat /tmp/file; echo $COLOUR; pwd; exit 9"); code != 9 || out != "made\nblue\n"+h.repo+"\n" {
		t.Errorf("exec gives %d, %q", code, out)
	}
	if _, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.ID}, By: "the test"}); err != nil {
		t.Fatal(err)
	}
	r, _ = h.Get(t.Context(), r.ID)
	if !r.Gone || r.Exit.Code != 3 || r.Exit.Reason != ReasonExited {
		t.Errorf("after the kill of what was kept: %+v %+v", r, r.Exit)
	}
	h.nothingLeft()

	// One that somebody else removes is noticed.
	other := h.start("true", func(s *Spec) { s.Keep = true })
	h.exit(other)
	other, _ = h.Get(t.Context(), other.ID)
	if err := removeContainer(t.Context(), h.eng, other.Container); err != nil {
		t.Fatal(err)
	}
	if j, err := h.find(other.ID); err != nil {
		t.Error(err)
	} else {
		<-j.gone
	}

	var stopped *NotRunningError
	if _, err := h.Exec(t.Context(), ExecRequest{Job: r.ID, Argv: []string{"true"}}, ExecIO{}); !errors.As(err, &stopped) {
		t.Errorf("exec in what is gone: %v", err)
	}
}

// TestFilesAreIsolated changes the user's files under a running job and the
// job's under the user.
func TestFilesAreIsolated(t *testing.T) {
	h := newHarness(t)
	write(t, filepath.Join(h.repo, "new.txt"), "uncommitted\n")
	r := h.start(`cat new.txt; echo ready; until [ -e /tmp/go ]; do sleep 0.05; done; cat hello.txt; echo changed > hello.txt; echo x > made; git status --porcelain`)
	h.until(r, "text:ready")
	write(t, filepath.Join(h.repo, "hello.txt"), "changed by the user\n")
	if code, _ := h.execute(r, "touch", "/tmp/go"); code != 0 {
		t.Error("touch failed")
	}
	if e := h.exit(r); !e.OK() {
		t.Errorf("exit %+v", e)
	}
	if got, want := h.text(r, 0), "uncommitted\nready\nhello\n M hello.txt\n?? made\n?? new.txt\n"; got != want {
		t.Errorf("the job printed %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(h.repo, "made")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of the job's is among the user's: %v", err)
	}
}

func TestLive(t *testing.T) {
	h := newHarness(t)
	h.output("echo changed > hello.txt; git status --porcelain > status", func(s *Spec) { s.Live = true })
	data, err := os.ReadFile(filepath.Join(h.repo, "hello.txt"))
	if err != nil || string(data) != "changed\n" {
		t.Errorf("the user's file holds %q, %v", data, err)
	}
	none := t.TempDir()
	write(t, filepath.Join(none, "file"), "text\n")
	if got := h.output("cat file", func(s *Spec) { s.Live, s.Dir = true, none }); got != "text\n" {
		t.Errorf("outside a repository the job printed %q", got)
	}
	spec := h.spec("true")
	spec.Dir = none
	var noRepo *worktree.NotRepoError
	if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &noRepo) {
		t.Errorf("without --live: %v", err)
	}
}

// TestAgainAtOnce takes name and port of a job the moment its end is known,
// while its container is still being removed.
func TestAgainAtOnce(t *testing.T) {
	h := newHarness(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	for range 3 {
		r := h.start("true", func(s *Spec) { s.Name, s.Ports = "web", []PortSpec{{Port: 80, Host: port, Proto: "tcp"}} })
		if e := h.exit(r); !e.OK() {
			t.Errorf("exit %+v", e)
		}
	}
}

// TestWorkDirThatGitDoesNotKnow runs in an empty directory of the user's.
func TestWorkDirThatGitDoesNotKnow(t *testing.T) {
	h := newHarness(t)
	dir := filepath.Join(h.repo, "new", "empty")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := h.output("pwd", func(s *Spec) { s.Dir = dir }); got != dir+"\n" {
		t.Errorf("the job ran in %q", got)
	}
}

func TestLiveOnOwnFilesIsRefused(t *testing.T) {
	h := newHarness(t)
	for _, dir := range []string{filepath.Dir(h.dirs.State), h.dirs.Cache, "/"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		spec := h.spec("true")
		spec.Live, spec.Dir = true, dir
		var refused *worktree.RefusedRootError
		if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &refused) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestNamesAndHandles(t *testing.T) {
	h := newHarness(t)
	named := func(s *Spec) { s.Name = "web" }
	first := h.start("sleep 600", named)
	spec := h.spec("true")
	spec.Name = "web"
	var taken *NameTakenError
	if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &taken) {
		t.Errorf("a name in use gives %v", err)
	}
	if _, err := h.Kill(t.Context(), KillRequest{Jobs: []string{"web"}, By: "the test"}); err != nil {
		t.Fatal(err)
	}
	second := h.start("echo again", named)
	h.exit(second)
	if r, err := h.Get(t.Context(), "web"); err != nil || r.ID != second.ID {
		t.Errorf("web is %v, %v, want the newer", r.ID, err)
	}
	if r, err := h.Get(t.Context(), strings.ToLower(first.ID[18:])); err != nil || r.ID != first.ID {
		t.Errorf("the end of an ID finds %v, %v", r.ID, err)
	}
	var unknown *UnknownJobError
	if _, err := h.Get(t.Context(), "wbe"); !errors.As(err, &unknown) || len(unknown.Near) != 1 {
		t.Errorf("a misspelt name gives %+v", err)
	}
}

// TestSessionEnd leaves records and logs, and nothing else.
func TestSessionEnd(t *testing.T) {
	h := newHarness(t)
	done := h.start("echo kept")
	h.exit(done)
	running := h.start("echo ready; sleep 600")
	h.until(running, "text:ready")
	if err := h.End(t.Context(), "the test"); err != nil {
		t.Fatal(err)
	}
	h.nothingLeft()
	sessions, err := StateDir(h.dirs.State).Sessions()
	if err != nil || len(sessions) != 1 || sessions[0].Live || sessions[0].Ended.IsZero() {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	records, err := sessions[0].Jobs()
	if err != nil || len(records) != 2 {
		t.Fatalf("records %+v, %v", records, err)
	}
	if e := records[1].Exit; e.Reason != ReasonKilled || e.By != "the test" {
		t.Errorf("the running job's end: %+v", e)
	}
	for i, want := range []string{"kept\n", "ready\n"} {
		reader, err := logstore.Open(records[i].LogDir())
		if err != nil {
			t.Fatal(err)
		}
		if got := readLog(t, reader, 0); got != want {
			t.Errorf("log %d holds %q", i, got)
		}
		entries, _ := os.ReadDir(records[i].Dirname)
		if len(entries) != 3 { // result.json too
			t.Errorf("job %d has left %v", i, entries)
		}
	}
	if _, err := h.Run(t.Context(), h.spec("true"), nil); err == nil {
		t.Error("a job began in a session that had ended")
	}
	// After the time for which records are kept they go too.
	old := time.Now().Add(-configs.Retention - time.Hour)
	if err := os.Chtimes(filepath.Join(sessions[0].Dir, endedFile), old, old); err != nil {
		t.Fatal(err)
	}
	report, err := Sweep(t.Context(), h.dirs, "", nil, false)
	if err != nil || len(report.Expired) != 1 {
		t.Errorf("sweep: %+v, %v", report, err)
	}
	if _, err := os.Stat(sessions[0].Dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("old records are still there")
	}
}
