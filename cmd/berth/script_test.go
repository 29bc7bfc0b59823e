package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/configs"
	"berth/runner"
	"berth/runner/keeper"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": main})
}

// TestScripts runs testdata/script against this very program and a real engine.
// Every script has a home, a state directory and a repository of its own.
func TestScripts(t *testing.T) {
	engine := haveEngine(t)
	server := buildServer(t)
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: func(env *testscript.Env) error { return setup(env, server) },
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "docker":
				return engine, nil
			case "root":
				return os.Getuid() == 0, nil
			}
			return false, errors.New("unknown condition")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "retry": retry, "capture": capture, "get": get, "listen": listen, "fakeengine": fakeEngine,
			"sweepdone": sweepDone,
		},
	})
}

// haveEngine looks for an engine. Where one is required its absence is a
// failure; else the scripts that need it are skipped.
func haveEngine(t *testing.T) bool {
	engine, err := runner.Connect(t.Context(), os.Getenv)
	if err != nil {
		if os.Getenv("BERTH_TEST_ENGINE") == "required" {
			t.Fatal(err)
		}
		t.Log(err)
		return false
	}
	engine.Close()
	return true
}

// buildServer builds the program that jobs serve with. It is the one thing
// that the host image is sure to be able to run, besides a shell.
func buildServer(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "serve")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./testdata/serve")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func setup(env *testscript.Env, server string) error {
	home := filepath.Join(env.WorkDir, "home")
	repo := filepath.Join(env.WorkDir, "repo")
	source, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	for _, v := range []string{
		"HOME=" + home, "XDG_STATE_HOME=", "XDG_CACHE_HOME=", "BERTH_SESSION=", "BERTH_LEASE=", "NO_COLOR=1",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org",
		"GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org",
		"REPO=" + repo, "SOURCE=" + source, "XDG_CONFIG_HOME=", "DOCKER_HOST=" + os.Getenv("DOCKER_HOST"), "DOCKER_CONTEXT=" + os.Getenv("DOCKER_CONTEXT"),
	} {
		key, value, _ := strings.Cut(v, "=")
		env.Setenv(key, value)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(repo, 0o700); err != nil {
		return err
	}
	program, err := os.ReadFile(server)
	if err != nil {
		return err
	}
	for name, data := range map[string]string{"serve": string(program), "greeting": "first\n"} {
		if err := os.WriteFile(filepath.Join(repo, name), []byte(data), 0o755); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "first"}, {"tag", "v1"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = repo, env.Vars
		if out, err := cmd.CombinedOutput(); err != nil {
			return errors.New(string(out))
		}
	}
	env.Cd = repo
	env.Defer(func() { endSessions(env) })
	return nil
}

// endSessions ends what a script has begun, and fails it if the engine has
// anything of it after that.
func endSessions(env *testscript.Env) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dirs, err := configs.FindDirs(env.Getenv)
	if err != nil {
		env.T().Fatal(err)
	}
	sessions, err := runner.StateDir(dirs.State).Sessions()
	if err != nil {
		env.T().Fatal(err)
	}
	for _, s := range sessions {
		if s.Live {
			c := keeper.Dial(s)
			if err := c.End(ctx, "the test"); err != nil {
				env.T().Log("end session: ", err)
			}
			c.Close()
		}
	}
	if len(sessions) == 0 {
		return
	}
	report, err := runner.Sweep(ctx, dirs, runner.EngineSetting(os.Getenv), func(ctx context.Context) (runner.Engine, error) {
		return runner.Connect(ctx, os.Getenv)
	}, true)
	if err != nil {
		env.T().Fatal(err)
	}
	if len(report.Containers) > 0 {
		env.T().Fatal("containers were left: ", report.Containers)
	}
}

// status CODE COMMAND ARG... runs a command that must exit with a code.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status code command [arg...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// retry COMMAND ARG... runs a command until it succeeds.
func retry(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("in vain: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// capture VARIABLE keeps the last stdout, trimmed.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// get ADDRESS TEXT fetches http://ADDRESS/ and compares.
func get(ts *testscript.TestScript, neg bool, args []string) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + args[0] + "/")
	if err != nil && neg {
		return
	}
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	if neg {
		// A port that is free again may be somebody else's by now.
		if string(body) == args[1] {
			ts.Fatalf("it still answers")
		}
		return
	}
	if string(body) != args[1] {
		ts.Fatalf("got %q", body)
	}
}

// listen VARIABLE takes a port of this machine until the script ends.
func listen(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// fakeEngine drop|conflict sets DOCKER_HOST to an engine that drops every
// connection, or refuses every call but a ping.
func fakeEngine(ts *testscript.TestScript, _ bool, args []string) {
	dir, err := os.MkdirTemp("", "berth-engine-")
	ts.Check(err)
	path := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", path)
	ts.Check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case args[0] == "drop":
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", "1.41")
		default:
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"message": "something is in progress"}`)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	ts.Defer(func() {
		server.Close()
		<-served
		os.RemoveAll(dir)
	})
	ts.Setenv("DOCKER_HOST", "unix://"+path)
}

// sweepDone fails if the state directory holds files of jobs other than
// records, logs and readers' marks.
func sweepDone(ts *testscript.TestScript, _ bool, _ []string) {
	jobs, err := filepath.Glob(filepath.Join(ts.Getenv("HOME"), ".local/state/berth/sessions/*/jobs/*/*"))
	ts.Check(err)
	if len(jobs) == 0 {
		ts.Fatalf("no record is left")
	}
	for _, path := range jobs {
		switch filepath.Base(path) {
		case "record.json", "log", "readers", "result.json":
		default:
			ts.Fatalf("%s is left", path)
		}
	}
}
