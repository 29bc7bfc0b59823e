//go:build linux

package main

import (
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/runner/control"
)

const (
	// orphanGrace is between SIGTERM and SIGKILL when the owner is gone, and
	// for what a job leaves behind when its main process has ended.
	orphanGrace = time.Second
	// rekill is how often SIGKILL is repeated for what was forked meanwhile.
	rekill = 100 * time.Millisecond
)

// supervisor runs one job. Its loop never blocks on output, so that timeouts,
// kills and the end of the control channel are served whatever the keeper
// reads.
type supervisor struct {
	start   control.Start
	score   oomScore
	signals <-chan os.Signal
	out     *output

	main   int // process id of the command
	exited control.Exited
	over   bool        // the main process has ended, and exited says how
	dead   bool        // no process of the job is left
	asked  string      // why the job was told to end: a Reason, or ""
	strike *time.Timer // strikes when the next SIGKILL is due
	due    time.Time   // when that is; zero if none is
	ooms   int         // the container's count of OOM kills at the start
}

func newSupervisor(start control.Start, score oomScore, signals <-chan os.Signal) *supervisor {
	s := &supervisor{
		start:   start,
		score:   score,
		signals: signals,
		out:     newOutput(start.Nonce),
		strike:  time.NewTimer(0),
		ooms:    oomKills(),
	}
	s.strike.Stop()
	return s
}

// run returns the exit code of init, which is the job's: the engine reports it
// to the keeper as a second witness.
func (s *supervisor) run(messages <-chan message) int {
	if failed := s.launch(); failed != nil {
		s.exited, s.over, s.dead = *failed, true, true
		s.out.finish(s.exited)
	}
	var timeout <-chan time.Time
	if s.start.Timeout > 0 {
		timeout = time.After(s.start.Timeout)
	}
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return s.ownerGone()
			}
			s.handle(m)
		case sig := <-s.signals:
			if sig == unix.SIGCHLD {
				s.reap()
			} else {
				signalAll(sig.(syscall.Signal))
			}
		case <-timeout:
			s.end(control.ReasonTimeout, s.start.Grace)
		case <-s.strike.C:
			s.kill()
		}
	}
}

func (s *supervisor) launch() *control.Exited {
	forwardPorts(s.start.Ports)
	stdout, stderr, err := s.out.pipes()
	if err != nil {
		return startFailed(codeFailed, "pipe: "+err.Error())
	}
	defer unix.Close(stdout)
	defer unix.Close(stderr)
	pid, failed := launch(s.start, stdout, stderr, s.score)
	if failed != nil {
		return failed
	}
	s.main = pid
	s.out.queue(control.Message{Op: control.OpStarted})
	go watchListeners(s.start.Ports, s.out.queue)
	s.start.Env, s.start.Argv = nil, nil // may be large, and are not needed again
	return nil
}

func (s *supervisor) handle(m message) {
	if m.err != nil || s.dead {
		return
	}
	switch m.Op {
	case control.OpSignal:
		signalAll(syscall.Signal(m.Int("number")))
	case control.OpKill:
		s.end(control.ReasonKilled, time.Duration(m.Int("grace"))*time.Millisecond)
	}
}

// end asks every process to end, and kills what is left after the grace. A
// second call may shorten the grace of the first, not lengthen it, and does not
// change why.
func (s *supervisor) end(reason string, grace time.Duration) {
	if s.dead {
		return
	}
	if s.asked == "" {
		s.asked = reason
	}
	signalAll(unix.SIGTERM)
	s.killIn(grace)
}

// killIn has SIGKILL sent after the grace, if that is not to happen earlier
// anyway.
func (s *supervisor) killIn(grace time.Duration) {
	if due := time.Now().Add(grace); s.due.IsZero() || due.Before(s.due) {
		s.due = due
		s.strike.Reset(grace)
	}
}

func (s *supervisor) kill() {
	if !s.dead {
		signalAll(unix.SIGKILL)
		s.strike.Reset(rekill)
	}
}

// reap collects every child that has died. The status of the main process is
// taken before we look whether all are dead.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			s.allDead()
			return
		case pid <= 0:
			return
		case pid == s.main && !s.over:
			s.mainEnded(status)
		}
	}
}

func (s *supervisor) mainEnded(status unix.WaitStatus) {
	s.over = true
	s.exited = control.Exited{Code: status.ExitStatus(), Reason: control.ReasonExited}
	if status.Signaled() {
		s.exited.Signal = int(status.Signal())
		s.exited.Code = 128 + s.exited.Signal
	}
	switch {
	case s.asked != "":
		s.exited.Reason = s.asked
	case s.exited.Code == 128+int(unix.SIGKILL) && oomKills() > s.ooms:
		s.exited.Reason = control.ReasonOOM
	}
	if s.asked == "" { // what the command left running goes with it
		signalAll(unix.SIGTERM)
		s.killIn(orphanGrace)
	}
}

func (s *supervisor) allDead() {
	if !s.over || s.dead {
		return
	}
	s.dead = true
	s.strike.Stop()
	s.out.finish(s.exited)
}

// ownerGone is the end-of-file switch: it leaves nothing, whether or not
// somebody reads our output. After the end of the job it is the keeper's sign
// that everything has been read.
func (s *supervisor) ownerGone() int {
	if s.dead {
		return s.exited.Code
	}
	signalAll(unix.SIGTERM)
	deadline := time.After(orphanGrace)
	for {
		select {
		case sig := <-s.signals:
			if sig == unix.SIGCHLD {
				if s.reap(); s.dead {
					return exitOrphaned
				}
			}
		case <-deadline:
			// Ours is the container's process namespace: the kernel kills what
			// is left when we exit.
			return exitOrphaned
		}
	}
}

// signalAll signals every process in the container but this one.
func signalAll(sig syscall.Signal) { unix.Kill(-1, sig) }

// oomKills reads how often the kernel has killed in this container's memory
// group, in the files of cgroup v2 and v1.
func oomKills() int {
	for _, path := range []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
				return atoi(value)
			}
		}
	}
	return 0
}

// atoi reads the digits at the start of s.
func atoi(s string) int {
	n := 0
	for i := 0; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n
}
