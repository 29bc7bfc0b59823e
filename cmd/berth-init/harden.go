//go:build linux

package main

import (
	"os"
	"os/signal"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that reach init from outside, by `docker stop` and
// `docker kill`, and that it passes on to every process of the job.
var forwarded = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

// harden shields this process from those it is about to start, which run as
// the same user. The returned channel has the forwarded signals and SIGCHLD.
func harden() <-chan os.Signal {
	// Not dumpable: nobody but the host's root opens our descriptors, memory or
	// environment, or traces us.
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)

	signals := make(chan os.Signal, 64)
	signal.Notify(signals, append(forwarded, unix.SIGCHLD)...)
	// The runtime has handlers for nearly every signal and crashes on some of
	// them (SIGSEGV with a forged origin, for one). The rest are ignored. The
	// default disposition would not do, although the kernel spares process 1 its
	// effect: a signal that the first thread blocks and another one does not
	// kills all the same, and the runtime has such threads. The job does not
	// inherit this: what the runtime takes for handled it resets in its children.
	for n := unix.Signal(1); n <= 64; n++ {
		if !keepsHandler(n) {
			ignoreHandled(n)
		}
	}
	return signals
}

// keepsHandler tells which signals the runtime must go on handling: those we
// asked for, and SIGURG, by which it preempts goroutines.
func keepsHandler(n unix.Signal) bool {
	for _, s := range forwarded {
		if s == n {
			return true
		}
	}
	return n == unix.SIGCHLD || n == unix.SIGURG
}

// ignoreHandled ignores a signal that has a handler, behind the runtime's back.
func ignoreHandled(n unix.Signal) {
	type sigaction struct{ handler, flags, restorer, mask uintptr } // the kernel's
	const ignore = 1                                                // SIG_IGN; 0 is SIG_DFL
	var old sigaction
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(n), 0, uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	if old.handler > ignore {
		action := sigaction{handler: ignore}
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(n), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

// oomScore keeps this process less likely than the job to be killed when
// memory runs out: the job inherits a raised score, which we lower again for
// ourselves. Both are allowed to any user.
type oomScore struct{ fd int }

// openOOMScore must be called while the process is still dumpable: after that
// its files in /proc belong to root.
func openOOMScore() oomScore {
	fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	return oomScore{fd}
}

func (s oomScore) raise() { s.set("500") }
func (s oomScore) lower() { s.set("0") }

func (s oomScore) set(value string) {
	if s.fd >= 0 {
		unix.Pwrite(s.fd, []byte(value), 0)
	}
}

// forbidLimits installs a seccomp filter on the calling thread, and so on what
// it forks, that refuses to change the resource limits of process 1. A process
// of the same user may otherwise give init a CPU limit of zero seconds, which
// kills it. The caller has locked the thread.
func forbidLimits() error {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		mask  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K

		nrAt       = 0  // offsets in struct seccomp_data
		pidAt      = 16 // low half of the first argument
		newLimitLo = 32 // third argument
		newLimitHi = 36

		allow = 0x7fff0000
		deny  = 0x00050000 | uint32(unix.EPERM)
	)
	// The call's number is compared without its architecture: the number that a
	// 32-bit program uses (340 on i386, 369 on arm) is no call of the 64-bit
	// ABIs, and theirs is none of the 32-bit ABIs' that takes 1 first and a
	// pointer third. The bit that marks x32 calls is taken off.
	compat := map[string]uint32{"amd64": 340, "arm64": 369}[runtime.GOARCH]
	filter := []unix.SockFilter{
		{Code: load, K: nrAt},
		{Code: mask, K: ^uint32(1 << 30)},
		{Code: equal, K: unix.SYS_PRLIMIT64, Jt: 1},
		{Code: equal, K: compat, Jf: 7},
		{Code: load, K: pidAt},
		{Code: equal, K: 1, Jf: 5},
		{Code: load, K: newLimitLo},
		{Code: equal, K: 0, Jf: 2},
		{Code: load, K: newLimitHi},
		{Code: equal, K: 0, Jt: 1},
		{Code: ret, K: deny},
		{Code: ret, K: allow},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
