package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Workspace is the files one job sees. The directory Dir and all in it belong to it; [RemoveWorkspace] removes them.
type Workspace struct {
	Form    string  // [Overlay], [Plain] or [Live]
	Root    string  // path of the files in the container: the repository's own path on the host
	Dir     string  // absolute
	Overlay string  // options of the overlay file system to mount at Root; "" in other forms
	Mounts  []Mount // what else to mount
}

// The forms of a workspace.
const (
	Overlay = "overlay" // shared layers under one of the job's own
	Plain   = "plain"   // a checkout of the job's own
	Live    = "live"    // the user's own files
)

// Mount is a bind mount in the job's container. Mounts are listed parents before children.
type Mount struct {
	Source   string // absolute path on the host
	Target   string // absolute path in the container
	ReadOnly bool
}

// jobObjects is where jobs see the object stores that their git borrows from.
const jobObjects = "/berth/objects"

// Names in a workspace's directory. No job sees the directory itself.
const (
	recordName = "workspace.json"
	emptyName  = "empty" // an empty file
	treeName   = "files" // plain: the files, .git among them
	upperName  = "upper" // overlay: what the job writes
	workName   = "work"  // overlay: the kernel's own
	gitName    = "git"   // overlay: the layer with the job's .git as it begins; live: the job's .git
)

// record is what a later process must know of a workspace.
type record struct {
	Form   string   `json:"form"`
	Tree   string   `json:"tree,omitempty"`   // of the snapshot
	Commit string   `json:"commit,omitempty"` // that HEAD began with
	Layers []string `json:"layers,omitempty"` // overlay: under the job's own, uppermost first
	From   int      `json:"from,omitempty"`   // so many of the uppermost layers were written by jobs before
	Links  string   `json:"links,omitempty"`  // directory of short names for the layers
}

// WorkspaceSpec is what a workspace is made of.
type WorkspaceSpec struct {
	Dir      string // must not exist; it is made with mode 0700, its parents too
	Form     string // Overlay or Plain
	Snapshot Snapshot
	Extras   []string // layers of further files, under those of the snapshot, uppermost first
	From     string   // the workspace of an ended job to go on with, instead of from the snapshot
	WorkDir  string   // the directory the job begins in, made when it can be and is not there; relative to the root
	Bottom   bool     // what the job writes will be a layer under others: it may not rename directories of lower layers
}

// FromError says that a job cannot go on from a workspace. Why completes "its files …".
type FromError struct{ Why string }

func (e *FromError) Error() string { return "its files " + e.Why }

// NewWorkspace makes a workspace of its own for a job. On error nothing is left. What it uses of the store's layers stays there until
// the store is closed.
//
// Errors: [*FromError], [*LayersError], [*GitError].
func (r *Repo) NewWorkspace(ctx context.Context, spec WorkspaceSpec) (*Workspace, error) {
	w, err := r.newWorkspace(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("make workspace: %w", err)
	}
	return w, nil
}

func (r *Repo) newWorkspace(ctx context.Context, spec WorkspaceSpec) (_ *Workspace, err error) {
	if err := r.prepare(filepath.Join(r.commonDir, "objects")); err != nil {
		return nil, err
	}
	dir, undo, err := r.store.begin(spec.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	w := &Workspace{Form: spec.Form, Root: r.root, Dir: dir}
	rec := record{Form: spec.Form, Tree: spec.Snapshot.Tree, Commit: spec.Snapshot.Commit}
	switch {
	case spec.Form == Overlay && spec.From != "":
		err = r.overlayFrom(spec, &rec)
	case spec.Form == Overlay:
		err = r.overlayLayers(ctx, spec, w, &rec)
	case spec.From != "":
		err = r.plainFrom(ctx, spec, w)
	default:
		err = r.plain(ctx, spec, w)
	}
	if err != nil {
		return nil, err
	}
	if w.Form == Overlay {
		if err := r.writable(w, &rec, spec.Bottom); err != nil {
			return nil, err
		}
	}
	if err := writeRecord(dir, rec); err != nil {
		if rec.Links != "" {
			os.RemoveAll(rec.Links)
		}
		return nil, err
	}
	objects, err := r.objectMounts(filepath.Join(dir, emptyName))
	if err != nil {
		return nil, err
	}
	w.Mounts = append(w.Mounts, objects...)
	return w, nil
}

// begin makes a workspace's directory. undo removes all again.
func (s *Store) begin(dir string) (abs string, undo func(), err error) {
	if abs, err = resolve(dir); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o700); err != nil {
		return "", nil, err
	}
	if err := os.Mkdir(abs, 0o700); err != nil {
		return "", nil, err
	}
	undo = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = RemoveWorkspace(ctx, s.remove, abs) // what it could not remove, a later sweep does
	}
	if err := os.WriteFile(filepath.Join(abs, emptyName), nil, 0o444); err != nil {
		undo()
		return "", nil, err
	}
	return abs, undo, nil
}

func writeRecord(dir string, rec record) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, recordName), string(text))
}

// readRecord reads the record of a workspace. A workspace without one was never finished.
func readRecord(dir string) (record, error) {
	var rec record
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if err == nil {
		err = json.Unmarshal(data, &rec)
	}
	return rec, err
}

// overlayLayers finds the layers of a snapshot and makes the one with the job's git directory.
func (r *Repo) overlayLayers(ctx context.Context, spec WorkspaceSpec, w *Workspace, rec *record) error {
	s, err := r.state(ctx, spec.Snapshot.Tree, spec.Extras)
	if err != nil {
		return err
	}
	own := filepath.Join(w.Dir, gitName)
	private := filepath.Join(own, ".git")
	if err := r.jobGitDir(ctx, private, spec.Snapshot.Branch, spec.Snapshot.Commit, false); err != nil {
		return err
	}
	index, err := r.preparedIndex(spec.Snapshot, s)
	if err != nil {
		return err
	}
	if err := linkOrCopy(index, filepath.Join(private, indexName)); err != nil {
		return err
	}
	rec.Layers = append(append([]string{own}, s.layers...), spec.Extras...)
	for _, d := range append(r.emptySubmodules(spec.Snapshot), spec.WorkDir) {
		if err := makeDirIn(own, rec.Layers, d); err != nil {
			return err
		}
	}
	return nil
}

// overlayFrom stacks on what an ended job has written.
func (r *Repo) overlayFrom(spec WorkspaceSpec, rec *record) error {
	from, err := readRecord(spec.From)
	switch {
	case err != nil:
		return &FromError{Why: "were never made, or are gone"}
	case from.Form != Overlay:
		return &FromError{Why: "are in another form (" + from.Form + ")"}
	}
	rec.Layers = append([]string{filepath.Join(spec.From, upperName)}, from.Layers...)
	rec.From = from.From + 1
	return nil
}

// writable adds the job's own layer and puts the mount together.
func (r *Repo) writable(w *Workspace, rec *record, bottom bool) error {
	upper, work := filepath.Join(w.Dir, upperName), filepath.Join(w.Dir, workName)
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if info, err := os.Stat(r.root); err == nil { // the top looks like the user's own
		if err := os.Chmod(upper, info.Mode().Perm()|0o700); err != nil {
			return err
		}
	}
	redirect := "on" // else the rename of a directory fails, as in git mv
	if bottom {
		redirect = "off"
	}
	options, links, err := overlayOptions(rec.Layers, upper, work, redirect)
	w.Overlay, rec.Links = options, links
	return err
}

// makeDirIn makes a directory in the layer own, if in the layers, of which own is one, there is nothing else at its path or above it.
func makeDirIn(own string, layers []string, dir string) error {
	if dir == "" || dir == "." {
		return nil
	}
	at := ""
	for part := range strings.SplitSeq(filepath.ToSlash(dir), "/") {
		at = filepath.Join(at, part)
		for _, l := range layers {
			info, err := os.Lstat(filepath.Join(l, at))
			if err != nil {
				continue
			}
			if !info.IsDir() && info.Mode()&fs.ModeCharDevice == 0 {
				return nil // the snapshot has something else there
			}
			break
		}
	}
	return os.MkdirAll(filepath.Join(own, dir), 0o755)
}

// emptySubmodules are the directories of submodules that have no files, which git makes all the same.
func (r *Repo) emptySubmodules(snap Snapshot) []string {
	var dirs []string
	for _, s := range snap.Submodules {
		path := filepath.Join(r.root, s.Path)
		real, err := resolve(path)
		switch {
		case err != nil || real != path: // below a symbolic link: the user has put something else there
		case s.Commit == "" && snap.Ref == "" && !exists(path):
		default:
			dirs = append(dirs, s.Path)
		}
	}
	return dirs
}

// linkOrCopy makes to the same file as from, or a copy where that cannot be.
func linkOrCopy(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return copyFile(from, to, 0o644)
}
