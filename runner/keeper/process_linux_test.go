package keeper

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/runner"
)

// TestSessionEndsWithItsTerminal begins a job from a real terminal and closes
// that, which takes its leader along.
func TestSessionEndsWithItsTerminal(t *testing.T) {
	w := newWorld(t)
	main, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	dirs, _ := json.Marshal(w.Dirs)
	leader := exec.Command(os.Args[0])
	leader.Env = append(os.Environ(), "BERTH_TEST_LEADER="+string(dirs), "BERTH_TEST_REPO="+w.Dir, "BERTH_SESSION=")
	leader.Stdin, leader.Stdout, leader.Stderr = tty, tty, tty
	leader.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	var said strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(main, &said)); lines.Scan() && !strings.Contains(said.String(), "begun"); {
	}
	if !strings.Contains(said.String(), "begun") {
		t.Fatalf("the leader said %q", said.String())
	}
	sessions, err := runner.StateDir(w.Dirs.State).Sessions()
	if err != nil || len(sessions) != 1 || sessions[0].Owner.Kind != runner.OwnerTerminal || sessions[0].Owner.PID != leader.Process.Pid {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	main.Close() // hangs up
	leader.Wait()
	eventually(t, "the session has ended", func() bool {
		sessions, err := runner.StateDir(w.Dirs.State).Sessions()
		return err == nil && len(sessions) == 1 && !sessions[0].Ended.IsZero()
	})
	if n := len(w.containers()); n > 0 {
		t.Errorf("%d containers are left", n)
	}
}

// TestStoppedKeeperIsNotReplaced has the keeper stopped: a command says so
// instead of hanging, and begins no second one.
func TestStoppedKeeperIsNotReplaced(t *testing.T) {
	w := newWorld(t)
	c := w.begin()
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(info.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(info.PID, unix.SIGCONT)
	eventually(t, "the keeper is stopped", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(info.PID) + "/stat")
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	var silent *runner.SilentError
	if _, err := w.Begin(t.Context()); !errors.As(err, &silent) {
		t.Errorf("begin: %v", err)
	}
}
