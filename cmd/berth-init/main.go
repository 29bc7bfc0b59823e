//go:build linux

// Berth-init is process 1 in the container of every berth job. It runs the
// job's command, copies its output, forwards its ports, and makes sure that
// nothing of the job outlives the process that owns it: when its standard
// input ends, everything in the container does.
//
// It is told what to do on standard input and reports on standard error, in
// the language of package control. It runs as the job's user, and is built so
// that the job can neither end, stop nor read it.
//
// As `berth-init exec CMD...` it is what `berth exec` starts in a container: it
// becomes the command, or says why not with a shell's exit code. As
// `berth-init probe DIR` it tries out whether a file system is good for jobs.
// As `berth-init helper` it runs no job either: it reads and removes what jobs
// have left, with root's eyes, for a caller who is not root.
package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Exit codes for an init that could not do its work.
const (
	exitNotInit  = 125 // not process 1, or no start message
	exitOrphaned = 143 // the owner was gone before the job had ended
)

func main() {
	// An init lives beside every job: the collector is told to be thrifty, and
	// the runtime to keep no caches for processors that it does not need.
	debug.SetMemoryLimit(1 << 20)
	runtime.GOMAXPROCS(1)
	os.Exit(run())
}

func run() int {
	if len(os.Args) > 2 && os.Args[1] == "exec" {
		return execute(os.Args[2:])
	}
	if len(os.Args) == 3 && os.Args[1] == "probe" {
		return probe(os.Args[2])
	}
	if unix.Getpid() != 1 {
		os.Stderr.WriteString("berth-init: runs only as the first process of a berth container\n")
		return exitNotInit
	}
	if len(os.Args) == 2 && os.Args[1] == "helper" {
		return help()
	}
	score := openOOMScore()
	signals := harden()

	messages := make(chan message, 16)
	go readControl(messages)
	first, ok := <-messages
	if !ok {
		return exitOrphaned
	}
	start, err := first.start()
	if err != nil {
		os.Stderr.WriteString("berth-init: " + err.Error() + "\n")
		return exitNotInit
	}
	return newSupervisor(start, score, signals).run(messages)
}
