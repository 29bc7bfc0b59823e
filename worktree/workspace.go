package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Workspace is the files one job sees. The directory Dir and all in it belong to it; [RemoveWorkspace] removes them.
type Workspace struct {
	Form   string  `json:"form"` // [Plain] or [Live]
	Root   string  `json:"root"` // path of the files in the container: the repository's own path on the host
	Dir    string  `json:"dir"`
	Mounts []Mount `json:"mounts"`
}

// The forms of a workspace.
const (
	Plain = "plain" // a worktree of the job's own
	Live  = "live"  // the user's own files
)

// Mount is a bind mount in the job's container. Mounts are listed parents before children.
type Mount struct {
	Source   string `json:"source"` // absolute path on the host
	Target   string `json:"target"` // absolute path in the container
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Paths in the container.
const (
	jobGit     = "/berth/git"
	jobObjects = "/berth/objects"
)

// Names in a workspace's directory. No job sees the directory itself.
const (
	recordName = "workspace.json"
	treeName   = "tree"
	gitName    = "git"
)

// record is what a later process must know to remove a workspace.
type record struct {
	Form string `json:"form"`
	Bare string `json:"bare,omitempty"` // the repository that the worktree is registered in
}

// start makes a workspace's directory and its record. undo removes all again.
func start(dir string, rec record) (abs string, undo func(), err error) {
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
		_ = RemoveWorkspace(ctx, abs) // what it could not remove, a later sweep does
	}
	text, err := json.Marshal(rec)
	if err == nil {
		err = writeFile(filepath.Join(abs, recordName), string(text))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(abs, "empty"), nil, 0o444)
	}
	if err != nil {
		undo()
		return "", nil, err
	}
	return abs, undo, nil
}

// NewWorkspace makes a workspace of its own for a job from a snapshot of this repository, in the plain form.
// dir must not exist; it is created with mode 0700, its parents too. On error nothing is left.
func (r *Repo) NewWorkspace(ctx context.Context, snap Snapshot, dir string) (*Workspace, error) {
	w, err := r.newWorkspace(ctx, snap, dir, jobGit, jobObjects)
	if err != nil {
		return nil, fmt.Errorf("make workspace: %w", err)
	}
	return w, nil
}

// newWorkspace has the container's paths as parameters, for tests that have no container.
func (r *Repo) newWorkspace(ctx context.Context, snap Snapshot, dir, gitAt, objectsAt string) (_ *Workspace, err error) {
	if err := r.prepare(filepath.Join(r.commonDir, "objects")); err != nil {
		return nil, err
	}
	dir, undo, err := start(dir, record{Form: Plain, Bare: r.bare()})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	tree, private := filepath.Join(dir, treeName), filepath.Join(dir, gitName)
	registered := make(chan error, 1)
	go func() { registered <- r.register(ctx, snap, tree) }()
	err = r.jobGitDir(ctx, private, snap.Branch, snap.Commit, false)
	if err := errors.Join(<-registered, err); err != nil {
		return nil, err
	}
	if err := r.checkout(ctx, snap, tree, private); err != nil {
		return nil, err
	}
	mounts, err := r.lendObjects(private, objectsAt, filepath.Join(dir, "empty"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tree, ".git"), []byte("gitdir: "+gitAt+"\n"), 0o644); err != nil {
		return nil, err
	}
	mounts = append([]Mount{{Source: tree, Target: r.root}, {Source: private, Target: gitAt}}, mounts...)
	return &Workspace{Form: Plain, Root: r.root, Dir: dir, Mounts: mounts}, nil
}

// register makes the snapshot a worktree of berth's bare repository, so that its objects are in use as git sees it.
func (r *Repo) register(ctx context.Context, snap Snapshot, tree string) error {
	g := git{gitDir: r.bare()}
	out, err := g.run(ctx, "commit-tree", "-m", "snapshot", snap.Tree)
	if err != nil {
		return err
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	_, err = g.run(ctx, "worktree", "add", "--quiet", "--detach", "--no-checkout", tree, strings.TrimSpace(string(out)))
	return err
}

// checkout writes the files of a snapshot and the index of the job's git.
func (r *Repo) checkout(ctx context.Context, snap Snapshot, tree, private string) error {
	attributes := filepath.Join(private, "info/attributes")
	users, err := os.ReadFile(attributes)
	if err != nil {
		return err
	}
	if snap.Ref == "" {
		if err := os.WriteFile(attributes, []byte(rawAttributes), 0o644); err != nil {
			return err
		}
	}
	g := git{
		dir: tree, gitDir: private, workTree: tree, index: filepath.Join(private, "index"),
		objects: filepath.Join(r.bare(), "objects"),
		config:  []string{fmt.Sprintf("checkout.workers=%d", min(runtime.NumCPU(), 8)), "core.fileMode=true"},
	}
	if _, err := g.run(ctx, "read-tree", "--reset", "-u", snap.Tree); err != nil {
		return err
	}
	if err := os.WriteFile(attributes, users, 0o644); err != nil {
		return err
	}
	if snap.Index == "" {
		return nil
	}
	x, _, err := readIndex(g.index, r.hashSize())
	if err != nil {
		return err
	}
	if err := r.makeGitlinks(snap, tree); err != nil {
		return err
	}
	if x, err = r.jobIndex(snap.Index, x); err != nil {
		return err
	}
	return x.write(g.index, r.hashSize())
}

// makeGitlinks makes the directories of submodules that have no files, as git does.
func (r *Repo) makeGitlinks(snap Snapshot, tree string) error {
	for _, s := range snap.Submodules {
		path := filepath.Join(tree, s.Path)
		if real, err := resolve(path); err != nil || real != path {
			continue // below a symbolic link: the user has put something else there
		}
		if s.Commit == "" && snap.Ref == "" && !exists(filepath.Join(r.root, s.Path)) {
			continue
		}
		if err := os.MkdirAll(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Live makes a workspace of the user's own working tree, so that a job sees the user's changes and makes its
// own in the user's files. .git is covered by a private one kept in dir, which must not exist. On error nothing is left.
func (r *Repo) Live(ctx context.Context, dir string) (*Workspace, error) {
	w, err := r.live(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("make live workspace: %w", err)
	}
	return w, nil
}

func (r *Repo) live(ctx context.Context, dir string) (_ *Workspace, err error) {
	if err := r.prepare(filepath.Join(r.commonDir, "objects")); err != nil {
		return nil, err
	}
	dir, undo, err := start(dir, record{Form: Live})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	branch, commit, _, err := r.head(ctx)
	if err != nil {
		return nil, err
	}
	private, empty := filepath.Join(dir, gitName), filepath.Join(dir, "empty")
	if err := r.jobGitDir(ctx, private, branch, commit, true); err != nil {
		return nil, err
	}
	tmp, release, err := r.tempDir()
	if err != nil {
		return nil, err
	}
	defer release()
	g, err := r.scratch(source{root: r.root}, tmp)
	if err != nil {
		return nil, err
	}
	x, err := r.userIndex(ctx, r.gitDir, g)
	if err != nil {
		return nil, err
	}
	if err := x.write(filepath.Join(private, "index"), r.hashSize()); err != nil {
		return nil, err
	}
	objects, err := r.lendObjects(private, jobObjects, empty)
	if err != nil {
		return nil, err
	}
	mounts := []Mount{{Source: r.root, Target: r.root}}
	dotGit := filepath.Join(r.root, ".git")
	info, err := os.Lstat(dotGit)
	switch {
	case err == nil && info.IsDir():
		mounts = append(mounts, Mount{Source: private, Target: dotGit})
	case err == nil && info.Mode().IsRegular():
		file := filepath.Join(dir, "gitfile")
		if err := os.WriteFile(file, []byte("gitdir: "+jobGit+"\n"), 0o644); err != nil {
			return nil, err
		}
		mounts = append(mounts, Mount{Source: file, Target: dotGit, ReadOnly: true}, Mount{Source: private, Target: jobGit})
	default:
		return nil, fmt.Errorf("%s is neither a directory nor a file, so it cannot be hidden from a job", dotGit)
	}
	if !inside(r.commonDir, dotGit) && inside(r.commonDir, r.root) {
		return nil, fmt.Errorf("the git directory %s lies in the working tree and cannot be hidden from a job", r.commonDir)
	}
	return &Workspace{Form: Live, Root: r.root, Dir: dir, Mounts: append(mounts, objects...)}, nil
}

// CheckLive tells whether a directory may be shown to jobs as it is. The error is a [*RefusedRootError] when it is /,
// holds $HOME, or has to do with berth's own files.
func (s *Store) CheckLive(checkout string) error {
	root, err := realPath(checkout)
	if err != nil {
		return fmt.Errorf("look at %s: %w", checkout, err)
	}
	return refuse(root, s.reserved)
}

// LiveDir makes a live workspace of a directory that is no repository: it is mounted, nothing else.
// Use [Store.Open] first where there may be a repository: it hides .git. Errors as of [Store.CheckLive].
func (s *Store) LiveDir(checkout, dir string) (*Workspace, error) {
	root, err := realPath(checkout)
	if err != nil {
		return nil, fmt.Errorf("make live workspace: %w", err)
	}
	if err := refuse(root, append([]string{dir}, s.reserved...)); err != nil {
		return nil, err
	}
	dir, _, err = start(dir, record{Form: Live})
	if err != nil {
		return nil, fmt.Errorf("make live workspace: %w", err)
	}
	return &Workspace{Form: Live, Root: root, Dir: dir, Mounts: []Mount{{Source: root, Target: root}}}, nil
}

// realPath is where a path leads.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}
