//go:build !linux

package worktree

import (
	"errors"
	"io/fs"
	"os"
)

func whiteout(string) error { return errors.ErrUnsupported }

func isWhiteout(os.DirEntry) bool { return false }

func clone(_, _ *os.File) error { return errors.ErrUnsupported }

func statOf(fs.FileInfo) stat { return stat{} }
