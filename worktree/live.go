package worktree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// jobGit is where a job with the user's own files has its git directory when .git is a file there.
const jobGit = "/berth/git"

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
	dir, undo, err := r.store.begin(dir)
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
	private := filepath.Join(dir, gitName)
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
	objects, err := r.objectMounts(filepath.Join(dir, emptyName))
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
	mounts = append(mounts, r.submoduleMounts(source{root: r.root}, x)...)
	if err := writeRecord(dir, record{Form: Live, Commit: commit}); err != nil {
		return nil, err
	}
	return &Workspace{Form: Live, Root: r.root, Dir: dir, Mounts: append(mounts, objects...)}, nil
}

// submoduleMounts keep a job from changing the .git of submodules that are checked out: the user's git follows it, and would read the
// configuration that the job put there.
func (r *Repo) submoduleMounts(src source, x *index) []Mount {
	var mounts []Mount
	for _, e := range x.entries {
		if e.mode != modeGitlink {
			continue
		}
		sub, ok := r.submodule(src, e.path)
		if !ok {
			continue
		}
		at := filepath.Join(sub.root, ".git")
		mounts = append(mounts, Mount{Source: at, Target: at, ReadOnly: true})
		if inner, _, err := readIndex(filepath.Join(sub.gitDir, indexName), r.hashSize()); err == nil {
			mounts = append(mounts, r.submoduleMounts(sub, inner)...)
		}
	}
	return mounts
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
	dir, undo, err := s.begin(dir)
	if err != nil {
		return nil, fmt.Errorf("make live workspace: %w", err)
	}
	if err := writeRecord(dir, record{Form: Live}); err != nil {
		undo()
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
