package worktree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	return removeAll(ctx, dir)
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
