package worktree

import (
	"context"
	"io"

	"berth/worktree/overlay"
)

// Reader reads what jobs have written: [overlay.Local] with the eyes of this process, package runner with
// those of root in a container. Its methods are those of Local.
type Reader interface {
	Changes(ctx context.Context, s overlay.Stack, n int, fn func(overlay.Entry) error) error
	List(ctx context.Context, s overlay.Stack, path string, fn func(overlay.Entry) error) error
	Read(ctx context.Context, s overlay.Stack, paths []string, fn func(overlay.Entry, io.Reader) error) error
}

var _ Reader = overlay.Local{}
