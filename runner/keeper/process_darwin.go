package keeper

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// processStarted tells a process from others that had or will have its number,
// by its start time. "" if there is none.
func processStarted(pid int) string {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(info.Proc.P_pid) != pid {
		return ""
	}
	return fmt.Sprintf("%d.%06d", info.Proc.P_starttime.Sec, info.Proc.P_starttime.Usec)
}

// waitProcess returns nil when the process is dead, or ctx's error.
func waitProcess(ctx context.Context, pid int, started string) error {
	return pollProcess(ctx, pid, started)
}
