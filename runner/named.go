package runner

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

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
	repo   *worktree.Repo
	snap   worktree.Snapshot
	volume string

	making sync.Mutex
	made   *worktree.Workspace // nil before the first job has needed it
}

func (s *Session) findNamed(name string) *namedFiles {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named[name]
}

// claimNamed is the workspace of that name; the first to ask gives it its files.
func (s *Session) claimNamed(name string, f files) *namedFiles {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.named[name]
	if n == nil {
		n = &namedFiles{repo: f.repo, snap: f.snap, volume: "berth-" + s.info.ID[len(s.info.ID)-6:] + "-" + name}
		s.named[name] = n
	}
	return n
}

// sharedMounts are the mounts of the named workspace that the job works in.
func (j *job) sharedMounts(ctx context.Context, spec worktree.WorkspaceSpec) ([]mount.Mount, error) {
	s := j.session
	n := s.findNamed(j.spec.Workspace)
	n.making.Lock()
	defer n.making.Unlock()
	if n.made == nil {
		spec.Dir, spec.Snapshot = s.namedDir(j.spec.Workspace), n.snap
		if j.spec.Setup != nil {
			layer, err := j.setup(ctx)
			if err != nil {
				return nil, err
			}
			spec.Extras = append([]string{layer}, spec.Extras...)
		}
		made, err := n.repo.NewWorkspace(ctx, spec)
		if err != nil {
			return nil, err
		}
		n.made = made
	}
	return s.mountsOf(n.made, n.volume), nil
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

// cleanNamed removes the files of a session's named workspaces.
func cleanNamed(ctx context.Context, session string) error {
	dirs, err := filepath.Glob(filepath.Join(session, namedDir, "*"))
	if err != nil || len(dirs) == 0 {
		return nil
	}
	var errs []error
	for _, d := range dirs {
		errs = append(errs, worktree.RemoveWorkspace(ctx, d))
	}
	return errors.Join(append(errs, worktree.RemoveTree(ctx, filepath.Join(session, namedDir)))...)
}
