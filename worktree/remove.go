package worktree

import (
	"context"
	"fmt"
	"os"

	"berth/worktree/overlay"
)

// RemoveWorkspace removes the workspace in dir, also a half-made one. It needs nothing but the directory, so any later process can
// do it. It is nil when there is nothing (any more). Files without permissions for their owner are removed too; symbolic
// links are never followed. It runs no git: the job may have written anything.
func RemoveWorkspace(ctx context.Context, dir string) error {
	if err := removeWorkspace(ctx, dir); err != nil {
		return fmt.Errorf("remove workspace: %w", err)
	}
	return nil
}

func removeWorkspace(ctx context.Context, dir string) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	// A record that is missing or damaged is of a workspace that was never finished.
	if rec, err := readRecord(dir); err == nil && rec.Links != "" {
		if err := os.RemoveAll(rec.Links); err != nil {
			return err
		}
	}
	return overlay.Remove(ctx, dir)
}

// RemoveTree removes a directory that a job could write, whatever it has done to permissions. Symbolic links are never
// followed, nothing in it is read, and one that is not there is fine.
func RemoveTree(ctx context.Context, dir string) error {
	if err := overlay.Remove(ctx, dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
