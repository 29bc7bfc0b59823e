package worktree

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"berth/worktree/overlay"
)

// RemoveWorkspace removes the workspace in dir, also a half-made one, and its registration in berth's bare repository.
// It needs nothing but the directory, so any later process can do it. It is nil when there is nothing (any more).
// Files without permissions for their owner are removed too; symbolic links are never followed.
//
// It runs no git: the job may have written anything into the worktree.
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
	if !exists(dir) {
		return nil
	}
	var rec record
	// A record that is missing or damaged is of a workspace that was not registered yet.
	_ = json.Unmarshal([]byte(readSmall(filepath.Join(dir, recordName))), &rec)
	// The record goes last: what is left can then still be removed.
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == recordName {
			continue
		}
		if err := overlay.Remove(ctx, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if rec.Bare != "" && exists(rec.Bare) {
		if err := unregister(rec.Bare, filepath.Join(dir, treeName)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// unregister makes the bare repository forget a worktree. It takes the lock, since a `git worktree add` that looks at
// the others meanwhile fails when one of them vanishes.
func unregister(bare, tree string) error {
	unlock, _, err := lock(filepath.Join(filepath.Dir(bare), "lock"), false)
	if err != nil {
		return err
	}
	defer unlock()
	for admin, t := range registered(bare) {
		if t == tree {
			if err := os.RemoveAll(admin); err != nil {
				return err
			}
		}
	}
	return nil
}

// RemoveTree removes a directory that a job could write, whatever it has done to permissions. Symbolic links are never
// followed, nothing in it is read, and one that is not there is fine.
func RemoveTree(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return overlay.Remove(ctx, dir)
}
