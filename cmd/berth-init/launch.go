//go:build linux

package main

import (
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/runner/control"
)

// Exit codes of a shell for a command that cannot be run.
const (
	codeFailed        = 125
	codeNotExecutable = 126
	codeNotFound      = 127
)

// launch starts the job's command with its output on the two descriptors and
// its input at /dev/null. The process leads a terminal session of its own.
// What fails comes back as the end of the job.
func launch(s control.Start, stdout, stderr int, score oomScore) (pid int, failed *control.Exited) {
	if info, err := os.Stat(s.Dir); err != nil || !info.IsDir() {
		return 0, startFailed(codeFailed, "no such directory: "+s.Dir)
	}
	path, failed := lookPath(s.Argv[0], s.Env, s.Dir)
	if failed != nil {
		return 0, failed
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, startFailed(codeFailed, "/dev/null: "+err.Error())
	}
	defer unix.Close(null)

	// The job is forked from a thread that carries the filter; the thread ends
	// with this goroutine, since it is never unlocked.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		forbidLimits() // without seccomp in the kernel there is none in the job either
		score.raise()
		pid, err = syscall.ForkExec(path, s.Argv, &syscall.ProcAttr{
			Dir:   s.Dir,
			Env:   s.Env,
			Files: []uintptr{uintptr(null), uintptr(stdout), uintptr(stderr)},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
		score.lower()
	}()
	<-done
	switch err {
	case nil:
		return pid, nil
	case syscall.ENOENT: // the file is there: its interpreter is not
		return 0, startFailed(codeNotFound, s.Argv[0]+": its interpreter was not found")
	case syscall.E2BIG:
		return 0, startFailed(codeNotExecutable, s.Argv[0]+": the arguments and environment are too long")
	}
	return 0, startFailed(codeNotExecutable, s.Argv[0]+": "+err.Error())
}

// execute becomes a command, in the environment and directory that this process
// was given.
func execute(argv []string) int {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	path, failed := lookPath(argv[0], os.Environ(), dir)
	if failed == nil {
		failed = startFailed(codeNotExecutable, argv[0]+": "+syscall.Exec(path, argv, os.Environ()).Error())
	}
	os.Stderr.WriteString("berth: " + failed.Error + "\n")
	return failed.Code
}

// lookPath finds a command as execvp does, in the PATH of the job.
func lookPath(name string, env []string, dir string) (string, *control.Exited) {
	absolute := func(path string) string {
		if strings.HasPrefix(path, "/") {
			return path
		}
		return dir + "/" + path
	}
	if strings.Contains(name, "/") {
		path := absolute(name)
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return "", startFailed(codeNotFound, name+": no such file")
		case info.IsDir() || !executable(path):
			return "", startFailed(codeNotExecutable, name+": not an executable file")
		}
		return path, nil
	}
	var found bool
	for _, d := range strings.Split(lookup(env, "PATH"), ":") {
		if d == "" {
			d = "."
		}
		path := absolute(d + "/" + name)
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			continue
		}
		found = true
		if executable(path) {
			return path, nil
		}
	}
	if found {
		return "", startFailed(codeNotExecutable, name+": found, but not executable")
	}
	return "", startFailed(codeNotFound, name+": command not found")
}

func executable(path string) bool { return unix.Access(path, unix.X_OK) == nil }

// lookup returns the last value of key, which is the one that counts.
func lookup(env []string, key string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], key+"="); ok {
			return value
		}
	}
	return ""
}

func startFailed(code int, text string) *control.Exited {
	return &control.Exited{Code: code, Reason: control.ReasonStartFailed, Error: text}
}
