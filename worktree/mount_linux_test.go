package worktree

import (
	"os"

	"golang.org/x/sys/unix"
)

// canMount tells whether tests can do what the engine does for jobs.
var canMount = os.Geteuid() == 0

func mountOverlay(at, options string) error { return unix.Mount("overlay", at, "overlay", 0, options) }

func unmount(at string) { unix.Unmount(at, unix.MNT_DETACH) }
