package overlay

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// asUser calls f on a thread of another user's, which ends with the goroutine. f starts no other.
func asUser(uid int, f func() error) error {
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	return f()
}
