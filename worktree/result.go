package worktree

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"berth/worktree/overlay"
)

// Result is what a job has made of its snapshot, as objects in berth's store: it outlives the job's files.
type Result struct {
	Tree    string    `json:"tree"`              // the snapshot's tree with the job's changes
	Head    string    `json:"head,omitempty"`    // the commit the job's HEAD is at, if that is not the one it started from
	Branch  string    `json:"branch,omitempty"`  // the branch the job is on; "" when detached
	NoHead  string    `json:"no_head,omitempty"` // why the job's commits could not be taken; its files are in Tree all the same
	Skipped []Skipped `json:"skipped,omitempty"` // sorted by path
	Lost    string    `json:"lost,omitempty"`    // why the job's files could not be read; then there is nothing else
}

// Skipped is a path that is not in a result though it changed; Why completes "it …".
type Skipped struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// keepLimit is how many bytes of new contents are kept of a workspace that is about to be removed. It bounds what a job that
// nobody looks at can store for good.
const keepLimit = 1 << 30

// Result stores what the job in the workspace dir has changed, which may still run. Files that .gitignore names are no part of it unless the
// snapshot or a commit of the job's has them, nor are nested .git directories, sockets, pipes and devices.
//
// Everything in the workspace is taken for hostile: it is read through read, and no git runs over it.
func (r *Repo) Result(ctx context.Context, read Reader, dir string, snap Snapshot) (Result, error) {
	res, err := r.result(ctx, read, dir, snap, 0)
	if err != nil {
		return Result{}, fmt.Errorf("find what the job changed: %w", err)
	}
	return res, nil
}

// KeepResult is [Repo.Result] for a workspace that is about to be removed, written to file as JSON. Of very large results the
// largest files are left out, and named. A file that exists is left as it is: what it says was found before.
//
// An error is worth another try: the disk is full, or ctx is done. What cannot be found for another reason is noted as lost.
func (r *Repo) KeepResult(ctx context.Context, read Reader, dir string, snap Snapshot, file string) error {
	if exists(file) || !exists(filepath.Join(dir, recordName)) {
		return nil
	}
	res, err := r.result(ctx, read, dir, snap, keepLimit)
	var failed *GitError
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, syscall.ENOSPC), errors.As(err, &failed) && strings.Contains(failed.Stderr, "No space left"):
		return fmt.Errorf("keep what the job changed: %w", err)
	default:
		res = Result{Lost: err.Error()}
	}
	text, err := json.Marshal(res)
	if err == nil {
		err = writeFile(file, string(text)+"\n")
	}
	if err != nil {
		return fmt.Errorf("keep what the job changed: %w", err)
	}
	return nil
}

// ReadResult reads what [Repo.KeepResult] has written. The error wraps [fs.ErrNotExist] when there is nothing.
func ReadResult(file string) (Result, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Result{}, err
	}
	var res Result
	if err := json.Unmarshal(data, &res); err != nil {
		return Result{}, fmt.Errorf("%s: %w", file, err)
	}
	return res, nil
}

// Files is where the files of a workspace are.
type Files struct {
	Form    string
	Stack   overlay.Stack // of the files; nil in the live form
	changed int           // how many of the uppermost layers hold what was changed
	index   string        // plain form: stat data of the files as they were checked out
	commit  string        // HEAD at the start
	git     overlay.Stack // holds the private git directory
	gitPath string        // of that directory in git
}

// OpenFiles finds the files of the workspace in dir. The error wraps [fs.ErrNotExist] when there is no workspace.
func OpenFiles(dir string) (Files, error) {
	dir, err := resolve(dir)
	if err != nil {
		return Files{}, err
	}
	rec, err := readRecord(dir)
	if err != nil {
		return Files{}, fmt.Errorf("read the workspace's record: %w", err)
	}
	f := Files{Form: rec.Form, commit: rec.Commit, gitPath: ".git"}
	switch rec.Form {
	case Plain:
		f.Stack, f.changed, f.index = overlay.Stack{filepath.Join(dir, treeName)}, 1, filepath.Join(dir, indexName)
	case Live:
		f.git, f.gitPath = overlay.Stack{filepath.Join(dir, gitName)}, "."
		return f, nil
	case Overlay:
		f.Stack = append(overlay.Stack{filepath.Join(dir, upperName)}, rec.Layers...)
		f.changed = 1 + rec.From
	}
	f.git = f.Stack
	return f, nil
}

// Layers are all directories that the files lie in.
func (f Files) Layers() []string { return append(slices.Clone(f.Stack), f.git...) }

// WrittenByJob tells whether a layer of a workspace's is one that a job has written.
func WrittenByJob(layer string) bool {
	name, made := filepath.Base(layer), filepath.Base(filepath.Dir(layer))
	return name == upperName || name == treeName || strings.HasPrefix(made, setupPrefix)
}

func (r *Repo) result(ctx context.Context, read Reader, dir string, snap Snapshot, limit int64) (Result, error) {
	files, err := OpenFiles(dir)
	if err != nil {
		return Result{}, err
	}
	if files.Form == Live {
		return Result{}, errors.New("the job worked on the user's own files")
	}
	if err := r.prepare(filepath.Join(r.commonDir, "objects")); err != nil {
		return Result{}, err
	}
	tmp, release, err := r.tempDir()
	if err != nil {
		return Result{}, err
	}
	defer release()
	var res Result
	res.Head, res.Branch, err = r.commits(ctx, read, files, tmp)
	var useless *CommitsError
	if errors.As(err, &useless) {
		res.NoHead = useless.Why
	} else if err != nil {
		return Result{}, err
	}
	c := &changes{repo: r, read: read, files: files, tmp: tmp}
	if c.base, err = r.treeIndex(ctx, snap.Tree); err != nil {
		return Result{}, err
	}
	c.tracked = func(path string) bool { return c.base.find(path) != nil }
	if res.Head != "" {
		own, err := r.treeIndex(ctx, res.Head)
		if err != nil {
			return Result{}, err
		}
		c.tracked = func(path string) bool { return c.base.find(path) != nil || own.find(path) != nil }
	}
	if err := c.find(ctx); err != nil {
		return Result{}, err
	}
	c.leaveOutLarge(limit)
	res.Tree, err = c.store(ctx, snap.Tree)
	res.Skipped = c.skipped
	slices.SortFunc(res.Skipped, func(a, b Skipped) int { return cmp.Compare(a.Path, b.Path) })
	return res, err
}

// treeIndex is a tree, or that of a commit, with all below it.
func (r *Repo) treeIndex(ctx context.Context, tree string) (*index, error) {
	entries, err := r.treeEntries(ctx, tree)
	if err != nil {
		return nil, err
	}
	x := &index{entries: entries}
	x.sort() // git's order takes a directory's name to end in a slash
	return x, nil
}

// has says whether anything lies below the directory path.
func (x *index) has(path string) bool {
	i, _ := slices.BinarySearchFunc(x.entries, path+"/", func(e entry, p string) int { return cmp.Compare(e.path, p) })
	return i < len(x.entries) && strings.HasPrefix(x.entries[i].path, path+"/")
}

func (r *Repo) isID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == r.hashSize() && strings.ToLower(s) == s
}
