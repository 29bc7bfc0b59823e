package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	"berth/worktree"
)

// namedDir holds, in a session's directory, the workspaces that have names.
const namedDir = "workspaces"

// namedFiles is a workspace that several jobs share and change. Its overlay file system is a named volume, which the engine mounts once however many
// containers use it: two mounts of one writable layer would have no defined result.
type namedFiles struct {
	name   string
	volume string
	turn   chan struct{} // taken by who makes the files

	// Set when the files have been made, under the session's lock.
	repo *worktree.Repo
	snap worktree.Snapshot
	made *worktree.Workspace
}

// fits is the error for a job that wants something else than what the workspace has.
func (n *namedFiles) fits(spec Spec, repo *worktree.Repo) error {
	if n.repo.Root() != repo.Root() {
		return &InvalidError{What: "workspace", Value: n.name, Why: "it is of another repository, " + n.repo.Root(), Hint: "choose another name"}
	}
	if spec.Ref != "" {
		return &InvalidError{What: "ref", Value: spec.Ref, Why: fmt.Sprintf("the workspace %q has its files already", n.name), Hint: "leave out --ref, or choose another name"}
	}
	return nil
}

// madeNamed is the workspace of that name when it has its files, else nil.
func (s *Session) madeNamed(name string) *namedFiles {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.named[name]; n != nil && n.made != nil {
		return n
	}
	return nil
}

// sharedMounts are the mounts of the named workspace that the job works in. The first job that gets so far gives it its files.
func (j *job) sharedMounts(ctx context.Context, spec worktree.WorkspaceSpec) ([]mount.Mount, error) {
	s, name := j.session, j.spec.Workspace
	s.mu.Lock()
	n := s.named[name]
	if n == nil {
		n = &namedFiles{name: name, volume: "berth-" + s.info.ID[len(s.info.ID)-6:] + "-" + name, turn: make(chan struct{}, 1)}
		s.named[name] = n
	}
	s.mu.Unlock()
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if n.made != nil {
		if err := n.fits(j.spec, j.files.repo); err != nil {
			return nil, err
		}
		j.update(func(r *Record) { r.Snapshot = n.snap })
		return s.mountsOf(n.made, n.volume), nil
	}
	spec.Dir = s.namedDir(name)
	if err := j.addSetup(ctx, &spec); err != nil {
		return nil, err
	}
	made, err := j.files.repo.NewWorkspace(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	n.repo, n.snap, n.made = j.files.repo, j.files.snap, made
	s.mu.Unlock()
	return s.mountsOf(made, n.volume), nil
}

func (s *Session) namedDir(name string) string { return filepath.Join(s.info.Dir, namedDir, name) }

// removeVolumes removes volumes with a label: those of sessions that are meant.
func removeVolumes(ctx context.Context, eng Engine, label string, meant func(session string) bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callDeadline)
	defer cancel()
	list, err := eng.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))})
	if err != nil {
		return engineError("list volumes", err)
	}
	var errs []error
	for _, v := range list.Volumes {
		if !meant(v.Labels[LabelSession]) {
			continue
		}
		if err := eng.VolumeRemove(ctx, v.Name, false); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, engineError("remove volume", err))
		}
	}
	return errors.Join(errs...)
}
