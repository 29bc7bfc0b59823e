package keeper

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// processPoll is the pause between two looks at a process where the system
// does not tell of its death.
const processPoll = 300 * time.Millisecond

func pollProcess(ctx context.Context, pid int, started string) error {
	tick := time.NewTicker(processPoll)
	defer tick.Stop()
	for processStarted(pid) == started && started != "" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// terminalLeader finds the process that leads the terminal session we are in:
// usually the shell, which goes when the terminal closes. ok is false without
// a controlling terminal.
func terminalLeader() (pid int, started string, ok bool) {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return 0, "", false
	}
	tty.Close()
	pid, err = unix.Getsid(0)
	if err != nil {
		return 0, "", false
	}
	started = processStarted(pid)
	return pid, started, started != ""
}
