// Command berth runs commands in the background, each in a container of its
// own. See the package berth/cmd/internal/cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"berth/cmd/internal/cli"
)

// version is set when berth is built.
var version = "unknown"

func main() { os.Exit(run()) }

func run() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s := <-signals
		signal.Stop(signals) // a second one ends what does not care about the first
		cancel(cli.Interrupted{Signal: s})
	}()
	dir, err := os.Getwd()
	if err != nil { // it is gone, which the commands that need it complain about
		dir = os.Getenv("PWD")
	}
	return cli.Run(ctx, os.Args[1:], cli.App{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Environ: os.Environ(), Dir: dir, Version: version, Now: time.Now,
	})
}
