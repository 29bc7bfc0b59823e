package keeper

import (
	"bytes"
	"context"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// processStarted tells a process from others that had or will have its number:
// its start time in clock ticks since boot, field 22 of /proc/PID/stat. "" if
// there is none.
func processStarted(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The second field is a name in parentheses, and may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return ""
	}
	return string(fields[19])
}

// waitProcess returns nil when the process is dead, or ctx's error.
func waitProcess(ctx context.Context, pid int, started string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return pollProcess(ctx, pid, started) // gone, or a kernel before 5.3
	}
	defer unix.Close(fd)
	if processStarted(pid) != started {
		return nil
	}
	const wake = 500 // ms, to look at ctx
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, wake); err == nil && n > 0 {
			return nil
		}
	}
	return ctx.Err()
}
