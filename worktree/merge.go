package worktree

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// merge brings what differs between base and theirs into ours. What both have changed is merged line by line; where that cannot be done
// there is a conflict, and ours stays in the merged files. It is done here and not by git, which leaves a file in a directory's place to
// its caller.
func (r *Repo) merge(ctx context.Context, base, ours, theirs *index, tmp string) (*index, []Conflict, error) {
	dir, err := os.MkdirTemp(tmp, "merge-")
	if err != nil {
		return nil, nil, err
	}
	merged := &index{}
	var conflicts []Conflict
	for _, p := range paths(base, ours, theirs) {
		b, o, t := base.find(p), ours.find(p), theirs.find(p)
		e := o
		switch {
		case same(o, t) || same(b, t):
		case same(b, o):
			e = t
		default:
			m, err := r.mergeFile(ctx, dir, b, o, t)
			if err != nil {
				return nil, nil, err
			}
			if e = m; m == nil {
				conflicts = append(conflicts, Conflict{Path: p, Why: whyConflict(b, o, t)})
				e = o
			}
		}
		if e != nil {
			merged.entries = append(merged.entries, *e)
		}
	}
	for _, e := range merged.entries {
		if merged.has(e.path) {
			conflicts = append(conflicts, Conflict{Path: e.path, Why: "is a file on one side and a directory on the other"})
		}
	}
	return merged, conflicts, nil
}

// paths are those of all three, in order.
func paths(lists ...*index) []string {
	var all []string
	for _, x := range lists {
		for _, e := range x.entries {
			all = append(all, e.path)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// same says whether two entries, which may be nil, are the same file.
func same(a, b *entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.oid == b.oid && a.mode == b.mode
}

func whyConflict(base, ours, theirs *entry) string {
	switch {
	case ours == nil:
		return "was changed by the job and is gone from your files"
	case theirs == nil:
		return "was removed by the job and changed in your files"
	case base == nil:
		return "was added both by the job and in your files"
	}
	return "was changed both by the job and in your files"
}

// mergeFile is what becomes of a file that both sides have changed, or nil when that cannot be told.
func (r *Repo) mergeFile(ctx context.Context, dir string, base, ours, theirs *entry) (*entry, error) {
	if base == nil || ours == nil || theirs == nil {
		return nil, nil
	}
	m := entry{path: ours.path, mode: ours.mode, oid: ours.oid}
	if m.mode == base.mode {
		m.mode = theirs.mode
	}
	switch {
	case ours.oid == base.oid:
		m.oid = theirs.oid
	case theirs.oid == base.oid || ours.oid == theirs.oid:
	default:
		for _, e := range []*entry{base, ours, theirs} {
			if e.mode&0o170000 != 0o100000 {
				return nil, nil
			}
		}
		var names []string
		for i, e := range []*entry{ours, base, theirs} {
			names = append(names, filepath.Join(dir, fmt.Sprint(i)))
			err := r.blobs(ctx, []string{hex.EncodeToString([]byte(e.oid))}, func(_ int, _ int64, in io.Reader) error {
				return writeFrom(names[i], in)
			})
			if err != nil {
				return nil, err
			}
		}
		out, err := git{gitDir: r.bare()}.run(ctx, append([]string{"merge-file", "-p", "-q"}, names...)...)
		if exitCode(err) > 0 { // conflicts, or binary
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		id, err := r.storeBlob(ctx, out)
		if err != nil {
			return nil, err
		}
		raw, err := hex.DecodeString(id)
		if err != nil {
			return nil, err
		}
		m.oid = string(raw)
	}
	if ours.mode != base.mode && theirs.mode != base.mode && ours.mode != theirs.mode {
		return nil, nil
	}
	return &m, nil
}

func writeFrom(path string, in io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

// fileChange is what is to be done to one path: from old to new, either of which may be nil.
type fileChange struct {
	path     string
	old, new *entry
}

// difference lists what must change to make b of a.
func difference(a, b *index) []fileChange {
	var list []fileChange
	for i := range a.entries {
		e := &a.entries[i]
		switch n := b.find(e.path); {
		case n == nil:
			list = append(list, fileChange{e.path, e, nil})
		case n.oid != e.oid || n.mode != e.mode:
			list = append(list, fileChange{e.path, e, n})
		}
	}
	for i := range b.entries {
		if e := &b.entries[i]; a.find(e.path) == nil {
			list = append(list, fileChange{e.path, nil, e})
		}
	}
	slices.SortFunc(list, func(a, b fileChange) int { return strings.Compare(a.path, b.path) })
	return list
}
