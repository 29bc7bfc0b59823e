package worktree

import (
	"context"
	"fmt"
	"os"
)

// Remover removes directories with all they hold, as [overlay.Remove] does. One with root's hands can remove what jobs of root have
// made for a caller who is not root.
type Remover func(ctx context.Context, dirs ...string) error

// RemoveWorkspace removes the workspace in dir, also a half-made one. It needs nothing but the directory, so any later process can
// do it. It is nil when there is nothing (any more). It runs no git: the job may have written anything.
func RemoveWorkspace(ctx context.Context, remove Remover, dir string) error {
	err := ReleaseWorkspace(dir)
	if err == nil {
		err = remove(ctx, dir)
	}
	if err != nil {
		return fmt.Errorf("remove workspace: %w", err)
	}
	return nil
}

// ReleaseWorkspace removes what a workspace has outside its directory, which can then be removed like any other.
func ReleaseWorkspace(dir string) error {
	// A record that is missing or damaged is of a workspace that was never finished.
	if rec, err := readRecord(dir); err == nil && rec.Links != "" {
		return os.RemoveAll(rec.Links)
	}
	return nil
}
