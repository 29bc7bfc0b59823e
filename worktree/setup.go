package worktree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const setupPrefix = "setup-"

// KeyError says that a pattern for key files is bad, or that a snapshot has no file at it.
type KeyError struct{ Pattern, Why string }

func (e *KeyError) Error() string { return fmt.Sprintf("key file %q: %s", e.Pattern, e.Why) }

// Key is a hash of the names and contents that files have in a snapshot. A pattern is a path from the top, or one with *, ? and [] as of
// [path.Match]; ** is any number of directories. Errors: [*KeyError] for one that matches nothing.
func (r *Repo) Key(ctx context.Context, snap Snapshot, patterns []string) (string, error) {
	sum := sha256.New()
	if len(patterns) == 0 {
		return hex.EncodeToString(sum.Sum(nil)), nil
	}
	entries, err := r.treeEntries(ctx, snap.Tree)
	if err != nil {
		return "", fmt.Errorf("look for key files: %w", err)
	}
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return "", &KeyError{p, "it is no pattern"}
		}
		found := false
		for _, e := range entries {
			if matches(strings.Split(path.Clean(p), "/"), strings.Split(e.path, "/")) {
				found = true
				fmt.Fprintf(sum, "%q %o %x\n", e.path, e.mode, e.oid)
			}
		}
		if !found {
			return "", &KeyError{p, "there is no such file in the snapshot"}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// matches tells whether a pattern, or a directory that it names, has path in it.
func matches(pattern, path []string) bool {
	if len(pattern) == 0 {
		return true // path is it, or below it
	}
	if len(path) == 0 {
		return false
	}
	if pattern[0] == "**" {
		return matches(pattern[1:], path) || matches(pattern, path[1:])
	}
	return match(pattern[0], path[0]) && matches(pattern[1:], path[1:])
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// Setup returns the layer that a setup has left, for use as an extra one. When it is not there yet, run is called with the directory for a
// workspace, which it makes with Bottom set and in which it does what is to be done. key stands for all that the result depends on. A run that fails leaves
// nothing, and its error is returned.
func (r *Repo) Setup(ctx context.Context, key string, run func(dir string) error) (string, error) {
	dir, err := r.layer(ctx, setupPrefix+key, func(dir string) (layerInfo, error) {
		work, files := filepath.Join(dir, workName), filepath.Join(dir, layerTree)
		if err := run(work); err != nil {
			return layerInfo{}, err
		}
		if err := r.keepSetup(ctx, work, files); err != nil {
			return layerInfo{}, err
		}
		if err := RemoveWorkspace(ctx, r.store.remove, work); err != nil {
			return layerInfo{}, err
		}
		return measure(files)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, layerTree), nil
}

// keepSetup makes the files of a layer from what was written in a workspace. What the snapshot has comes from the layers above it.
func (r *Repo) keepSetup(ctx context.Context, dir, to string) error {
	rec, err := readRecord(dir)
	if err != nil {
		return err
	}
	from := filepath.Join(dir, upperName)
	if rec.Form == Plain {
		from = filepath.Join(dir, treeName)
		x, _, err := readIndex(filepath.Join(dir, indexName), r.hashSize())
		if err != nil {
			return err
		}
		root, err := os.OpenRoot(from)
		if err != nil {
			return err
		}
		defer root.Close()
		for _, e := range x.entries {
			_ = root.Remove(e.path) // unless the setup has removed or replaced it
		}
	}
	// It would be under the .git of every later job.
	if err := r.store.remove(ctx, filepath.Join(from, ".git")); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// measure is the size of the files below dir.
func measure(dir string) (layerInfo, error) {
	var info layerInfo
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be looked at is not counted
		}
		st, err := d.Info()
		if err == nil {
			info.Files++
			info.Bytes += onDisk(st.Size())
		}
		return nil
	})
	return info, err
}
