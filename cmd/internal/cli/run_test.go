package cli

import (
	"context"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/configs"
	"berth/runner"
)

func TestRunFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want runOptions
	}{
		{"make", runOptions{Argv: runner.Shell("make")}},
		{"-- make -j 4", runOptions{Argv: []string{"make", "-j", "4"}}},
		{"make --wait", runOptions{Argv: []string{"make", "--wait"}}},
		{"--wait make all", runOptions{Argv: []string{"make", "all"}, Wait: true}},
		{"--wait=10s make", runOptions{Argv: runner.Shell("make"), Wait: true, Limit: 10 * time.Second}},
		{"--wait -- 10s", runOptions{Argv: runner.Shell("10s"), Wait: true}},
		{"--until port:80 make", runOptions{Argv: runner.Shell("make"), Wait: true, Until: runner.Condition{Kind: "port", Port: 80}}},
		{"-n web -p 80 -p 81:82/udp x y", runOptions{
			Argv: []string{"x", "y"}, Name: "web",
			Set: given(configs.Config{Ports: []configs.Port{{Port: 80, Proto: "tcp"}, {Port: 82, Host: 81, Proto: "udp"}}}, "ports", "--publish"),
		}},
		{"--ref a --ref b,c -e A=1,2 -e B --env-file f x y", runOptions{
			Argv: []string{"x", "y"}, Refs: []string{"a", "b,c"}, Env: []string{"A=1,2", "B"}, EnvFiles: []string{"f"},
		}},
		{"--timeout 1h30m --image debian --live --keep --json x y", runOptions{
			Argv: []string{"x", "y"}, Live: true, Keep: true, JSON: true,
			Set: given(configs.Config{Timeout: 90 * time.Minute, Image: "debian"}, "timeout", "--timeout", "image", "--image"),
		}},
		{"--timeout 0 --setup= --no-config make", runOptions{
			Argv: runner.Shell("make"), NoConfig: true, Set: given(configs.Config{}, "timeout", "--timeout", "setup", "--setup"),
		}},
		{"--cpus 1.5 --memory 512m --pids 100 --network none --caches off make", runOptions{
			Argv: runner.Shell("make"),
			Set: given(configs.Config{Limits: configs.Limits{CPUs: 1.5, Memory: 512 << 20, Pids: 100}, Network: "none", Caches: "off"},
				"limits.cpus", "--cpus", "limits.memory", "--memory", "limits.pids", "--pids", "network", "--network", "caches", "--caches"),
		}},
		{"--carry .env --carry ./auto make", runOptions{
			Argv: runner.Shell("make"), Set: given(configs.Config{Carry: configs.Carry{Paths: []string{".env", "auto"}}}, "carry", "--carry"),
		}},
		{"--carry off make", runOptions{Argv: runner.Shell("make"), Set: given(configs.Config{Carry: configs.Carry{Off: true}}, "carry", "--carry")}},
	} {
		var got runOptions
		app := &App{Stdout: io.Discard, Stderr: io.Discard}
		cmd := newRunCmd(app, func(_ context.Context, o runOptions) error {
			got = o
			return nil
		})
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(strings.Fields(c.args))
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%s: %v", c.args, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.args, got, c.want)
		}
	}
}

// given is a layer of flags: keys, each with its flag.
func given(c configs.Config, keys ...string) configs.Layer {
	l := configs.Layer{Config: c}
	for i := 0; i < len(keys); i += 2 {
		l.Mark(keys[i], configs.Origin{Kind: configs.FromFlag, Name: keys[i+1]})
	}
	return l
}

func TestSpecsOfRefs(t *testing.T) {
	got := specs(runner.Spec{Name: "t"}, []string{"main", "feature/x", "feature-x", strings.Repeat("y", 80)})
	var names []string
	for _, s := range got {
		names = append(names, s.Name)
	}
	want := []string{"t-main", "t-feature-x", "t-feature-x-3", "t-" + strings.Repeat("y", 58)}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("got %q", names)
	}
	if one := specs(runner.Spec{Name: "t"}, []string{"main"}); one[0].Name != "t" || one[0].Ref != "main" {
		t.Errorf("got %+v", one)
	}
}

func TestWaitedCode(t *testing.T) {
	ended := func(reason runner.Reason, code int) runner.Record {
		return runner.Record{State: runner.Ended, Exit: &runner.Exit{Reason: reason, Code: code}}
	}
	port := runner.Condition{Kind: "port", Port: 80}
	for _, c := range []struct {
		name   string
		waited runner.Waited
		until  runner.Condition
		want   int
	}{
		{"its own code", runner.Waited{Record: ended(runner.ReasonExited, 7), Matched: "exit"}, runner.Condition{}, 7},
		{"timeout", runner.Waited{Record: ended(runner.ReasonTimeout, 143), Matched: "exit"}, runner.Condition{}, 124},
		{"lost", runner.Waited{Record: ended(runner.ReasonLost, 125), Matched: "exit"}, runner.Condition{}, 125},
		{"killed, and took it well", runner.Waited{Record: ended(runner.ReasonKilled, 0), Matched: "exit"}, runner.Condition{}, 143},
		{"the condition holds", runner.Waited{Record: runner.Record{State: runner.Running}, Matched: "port:80"}, port, 0},
		{"it held, though the job has failed since", runner.Waited{Record: ended(runner.ReasonExited, 7), Matched: "port:80"}, port, 0},
		{"it never held, and the job failed", runner.Waited{Record: ended(runner.ReasonExited, 7), Matched: "exit"}, port, 7},
		{"it never held, and the job succeeded", runner.Waited{Record: ended(runner.ReasonExited, 0), Matched: "exit"}, port, 1},
		{"exit is no other condition", runner.Waited{Record: ended(runner.ReasonExited, 0), Matched: "exit"}, runner.Condition{Kind: "exit"}, 0},
	} {
		if got := waitedCode(c.waited, c.until); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSignals(t *testing.T) {
	for name, want := range map[string]int{"TERM": 15, "sigkill": 9, "2": 2, "hup": 1} {
		var s signal
		if err := s.Set(name); err != nil || int(s.number) != want {
			t.Errorf("%s: %v, %v", name, s.number, err)
		}
	}
	for _, name := range []string{"", "FROB", "0", "-9", "9x", "999"} {
		var s signal
		if err := s.Set(name); err == nil {
			t.Errorf("%q passes for signal %v", name, s.number)
		}
	}
}
