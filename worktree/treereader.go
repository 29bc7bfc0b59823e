package worktree

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"berth/worktree/overlay"
)

// TreeReader reads the files of a tree in berth's store as if they were the only layer of a stack, whichever is named.
func (r *Repo) TreeReader(tree string) Reader {
	return &treeReader{repo: r, tree: tree, now: time.Now()}
}

type treeReader struct {
	repo  *Repo
	tree  string
	now   time.Time // git keeps no times
	index *index
}

func (t *treeReader) load(ctx context.Context) (err error) {
	if t.index == nil {
		t.index, err = t.repo.treeIndex(ctx, t.tree)
	}
	return err
}

func (t *treeReader) entry(e *entry) overlay.Entry {
	f := overlay.Entry{Path: e.path, Kind: overlay.File, Perm: 0o644, Mtime: t.now, Ctime: t.now}
	switch e.mode {
	case modeExec:
		f.Perm = 0o755
	case modeLink:
		f.Kind, f.Perm = overlay.Link, 0o777
	}
	return f
}

// Changes reports everything.
func (t *treeReader) Changes(ctx context.Context, s overlay.Stack, _ int, fn func(overlay.Entry) error) error {
	return t.List(ctx, s, ".", fn)
}

func (t *treeReader) List(ctx context.Context, _ overlay.Stack, path string, fn func(overlay.Entry) error) error {
	if err := t.load(ctx); err != nil {
		return err
	}
	seen := map[string]bool{}
	dir := func(p string) error {
		if seen[p] {
			return nil
		}
		seen[p] = true
		return fn(overlay.Entry{Path: p, Kind: overlay.Dir, Perm: 0o755, Mtime: t.now, Ctime: t.now})
	}
	if path == "." {
		if err := dir("."); err != nil {
			return err
		}
	}
	var links []entry
	for _, e := range t.index.entries {
		if path != "." && e.path != path && !strings.HasPrefix(e.path, path+"/") {
			continue
		}
		for i := range e.path {
			if e.path[i] == '/' && (path == "." || i >= len(path)) {
				if err := dir(e.path[:i]); err != nil {
					return err
				}
			}
		}
		switch e.mode {
		case modeLink:
			links = append(links, e)
			seen[e.path] = true
		case modeGitlink:
			if err := dir(e.path); err != nil {
				return err
			}
		default:
			seen[e.path] = true
			if err := fn(t.entry(&e)); err != nil {
				return err
			}
		}
	}
	if len(seen) == 0 {
		return fmt.Errorf("%s: %w", quotePath(path), fs.ErrNotExist)
	}
	oids := make([]string, len(links))
	for i, e := range links {
		oids[i] = hex.EncodeToString([]byte(e.oid))
	}
	return t.repo.blobs(ctx, oids, func(i int, _ int64, in io.Reader) error {
		to, err := io.ReadAll(io.LimitReader(in, 8<<10))
		if err != nil {
			return err
		}
		e := t.entry(&links[i])
		e.Target = string(to)
		return fn(e)
	})
}

func (t *treeReader) Read(ctx context.Context, _ overlay.Stack, paths []string, fn func(overlay.Entry, io.Reader) error) error {
	if err := t.load(ctx); err != nil {
		return err
	}
	var files []overlay.Entry
	var oids []string
	for _, p := range paths {
		if e := t.index.find(p); e != nil && (e.mode == modeFile || e.mode == modeExec) {
			files, oids = append(files, t.entry(e)), append(oids, hex.EncodeToString([]byte(e.oid)))
		}
	}
	return t.repo.blobs(ctx, oids, func(i int, size int64, in io.Reader) error {
		files[i].Size = size
		return fn(files[i], in)
	})
}
