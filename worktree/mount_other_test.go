//go:build !linux

package worktree

import "errors"

const canMount = false

func mountOverlay(_, _ string) error { return errors.ErrUnsupported }

func unmount(string) {}
