package worktree

import (
	"context"
	"os"
	"path/filepath"
)

// plain checks a snapshot out for one job alone.
func (r *Repo) plain(ctx context.Context, spec WorkspaceSpec, w *Workspace) error {
	tree, index := filepath.Join(w.Dir, treeName), filepath.Join(w.Dir, indexName)
	w.Mounts = []Mount{{Source: tree, Target: r.root}}
	x, err := r.checkout(ctx, tree, index, spec.Snapshot.Tree)
	if err != nil {
		return err
	}
	private := filepath.Join(tree, ".git")
	if err := r.jobGitDir(ctx, private, spec.Snapshot.Branch, spec.Snapshot.Commit, false); err != nil {
		return err
	}
	job, err := r.jobIndex(spec.Snapshot.Index, x)
	if err != nil {
		return err
	}
	if err := job.write(filepath.Join(private, indexName), r.hashSize()); err != nil {
		return err
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, d := range append(r.emptySubmodules(spec.Snapshot), spec.WorkDir) {
		if d != "" {
			_ = root.MkdirAll(d, 0o755) // where the snapshot has something else, that stays
		}
	}
	var extra []string
	for _, layer := range spec.Extras {
		if err := copyTree(ctx, layer, tree, func(path string) { extra = append(extra, path) }); err != nil {
			return err
		}
	}
	return r.noteExtra(w.Dir, x, extra)
}

// noteExtra adds to the index of a checkout the files that are no part of the snapshot, so that they do not count as the job's.
func (r *Repo) noteExtra(dir string, x *index, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	for _, p := range paths {
		info, err := os.Lstat(filepath.Join(dir, treeName, p))
		if err != nil {
			return err
		}
		x.entries = append(x.entries, entry{path: p, mode: gitMode(info.Mode()), oid: string(make([]byte, r.hashSize())), stat: statOf(info)})
	}
	x.sort()
	return x.write(filepath.Join(dir, indexName), r.hashSize())
}

// plainFrom copies the files of an ended job.
func (r *Repo) plainFrom(ctx context.Context, spec WorkspaceSpec, w *Workspace) error {
	from, err := readRecord(spec.From)
	switch {
	case err != nil:
		return &FromError{Why: "were never made, or are gone"}
	case from.Form != Plain:
		return &FromError{Why: "are in another form (" + from.Form + ")"}
	}
	w.Mounts = []Mount{{Source: filepath.Join(w.Dir, treeName), Target: r.root}}
	if err := linkOrCopy(filepath.Join(spec.From, indexName), filepath.Join(w.Dir, indexName)); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(w.Dir, treeName), 0o755); err != nil {
		return err
	}
	return copyTree(ctx, filepath.Join(spec.From, treeName), filepath.Join(w.Dir, treeName), nil)
}
