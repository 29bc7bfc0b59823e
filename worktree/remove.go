package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		if err := removeAll(ctx, filepath.Join(dir, e.Name())); err != nil {
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
	if err := removeAll(ctx, dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// removeAll is os.RemoveAll that also opens directories which their owner may not write or read.
func removeAll(ctx context.Context, path string) error {
	err := os.RemoveAll(path)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := open(ctx, parent, filepath.Base(path)); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// open makes all directories from name on writable for their owner. It goes down by one os.Root a directory, which no
// symbolic link leads out of.
func open(ctx context.Context, parent *os.Root, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := parent.Lstat(name)
	if err != nil || !info.IsDir() {
		return ignoreGone(err)
	}
	if info.Mode().Perm()&0o700 != 0o700 {
		if err := parent.Chmod(name, 0o700); err != nil {
			return ignoreGone(err)
		}
	}
	d, err := parent.OpenRoot(name)
	if err != nil {
		return ignoreGone(err)
	}
	defer d.Close()
	entries, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := open(ctx, d, e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
