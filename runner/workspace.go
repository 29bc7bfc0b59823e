package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/docker/docker/api/types/mount"

	"berth/worktree"
)

// files says where a job's files come from.
type files struct {
	repo   *worktree.Repo // nil with Live outside a repository
	form   string         // of the workspace
	snap   worktree.Snapshot
	from   Record   // the ended job to go on from; its ID is "" if there is none
	extras []string // layers of carried files
	setup  *setupOf // the job is a setup
}

// findFiles finds the repository and takes what the job is to see: a snapshot, or what was one before.
func (s *Session) findFiles(ctx context.Context, spec Spec) (files, error) {
	var f files
	var err error
	f.repo, err = s.store.Open(ctx, spec.Dir)
	var none *worktree.NotRepoError
	if spec.Live {
		f.form = worktree.Live
		if errors.As(err, &none) {
			return f, s.store.CheckLive(spec.Dir)
		}
		return f, err
	}
	if err != nil {
		return f, err
	}
	if f.form, err = s.form(ctx); err != nil {
		return f, err
	}
	if spec.Branch != "" {
		if err := f.repo.CheckBranch(ctx, spec.Branch); err != nil {
			return f, err
		}
	}
	if spec.From != "" {
		f.from, err = s.finishedFiles(spec.From, f)
		f.snap = f.from.Snapshot
		return f, err
	}
	if spec.Workspace != "" {
		if n := s.madeNamed(spec.Workspace); n != nil {
			f.snap = n.snap
			return f, n.fits(spec, f.repo)
		}
	}
	f.snap, err = f.repo.Snapshot(ctx, spec.Ref)
	return f, err
}

// FromError says that a job cannot go on with the files of another. Why completes "job web …"; Hint is what to do instead.
type FromError struct{ Job, Why, Hint string }

func (e *FromError) Error() string { return fmt.Sprintf("job %s %s", e.Job, e.Why) }

// finishedFiles is the job whose files are to be gone on with.
func (s *Session) finishedFiles(name string, f files) (Record, error) {
	j, err := s.find(name)
	if err != nil {
		return Record{}, err
	}
	r := j.Record()
	no := func(why, hint string) (Record, error) { return Record{}, &FromError{r.Handle, why, hint} }
	switch {
	case r.State != Ended:
		return no("has not ended, so its files may still change", "wait for it: berth wait "+r.Handle)
	case r.Exit != nil && r.Exit.Reason == ReasonStartFailed:
		return no("never ran, so there are no files to go on with", "berth logs "+r.Handle+" may say why")
	case r.Keep && !r.Gone:
		return no("is kept, so its files may still change", "end it first: berth kill "+r.Handle)
	case r.Form == worktree.Live:
		return no("worked on your own files", "leave out --from: a new job begins with those as they are")
	case r.Workspace != "":
		return no("worked in the workspace "+r.Workspace, "use --workspace "+r.Workspace)
	case r.Repo != f.repo.Root():
		return no("is of another repository, "+r.Repo, "")
	case j.files.setup != nil:
		return no("is a setup, whose files all its jobs have", "")
	}
	// The output may be complete before the container is removed.
	select {
	case <-j.gone:
	default:
		if err := j.kill("a job that goes on with its files", 0); err != nil {
			return Record{}, err
		}
	}
	return r, nil
}

// carry brings ignored files of the checkout along, as they are now.
func (j *job) carry(ctx context.Context) error {
	c := j.spec.Carry
	switch {
	case j.files.repo == nil, j.files.form == worktree.Live, j.files.from.ID != "", c.Off:
		return nil
	case len(c.Paths) == 0 && (!j.image.Host || j.spec.Setup != nil):
		// What the user's own tools have installed may not run elsewhere, and a setup makes it.
		return nil
	}
	var err error
	j.files.extras, err = j.files.repo.Carry(ctx, j.files.snap, c.Paths)
	return err
}

// workspace makes the job's files, or finds those that it shares, and returns what to mount.
func (j *job) workspace(ctx context.Context) ([]mount.Mount, error) {
	f, dir := j.files, filepath.Join(j.record.Dirname, workDir)
	switch {
	case f.repo == nil:
		return j.workMounts(j.session.store.LiveDir(j.spec.Dir, dir))
	case f.form == worktree.Live:
		return j.workMounts(f.repo.Live(ctx, dir))
	case f.setup != nil:
		dir = f.setup.dir
	}
	spec := worktree.WorkspaceSpec{Dir: dir, Form: f.form, Snapshot: f.snap, Extras: f.extras, Bottom: f.setup != nil}
	if f.from.ID != "" {
		spec.From = filepath.Join(f.from.Dirname, workDir)
	}
	if rel, err := filepath.Rel(f.repo.Root(), j.spec.Dir); err == nil && filepath.IsLocal(rel) {
		spec.WorkDir = rel
	}
	if j.spec.Workspace != "" {
		return j.sharedMounts(ctx, spec)
	}
	if err := j.addSetup(ctx, &spec); err != nil {
		return nil, err
	}
	return j.workMounts(f.repo.NewWorkspace(ctx, spec))
}

// addSetup puts what the job's setup has made under its files.
func (j *job) addSetup(ctx context.Context, spec *worktree.WorkspaceSpec) error {
	if j.spec.Setup == nil || spec.From != "" {
		return nil
	}
	layer, err := j.setup(ctx)
	if err == nil {
		spec.Extras = append([]string{layer}, spec.Extras...)
	}
	return err
}

// workMounts are the mounts of a workspace of the job's own.
func (j *job) workMounts(w *worktree.Workspace, err error) ([]mount.Mount, error) {
	if err != nil {
		return nil, err
	}
	return j.session.mountsOf(w, ""), nil
}

// mountsOf are the mounts of a workspace; volume is the name of the one for its overlay file system, "" for one that goes with the container. Those
// have labels as well: when somebody else removes the container, they stay.
func (s *Session) mountsOf(w *worktree.Workspace, volume string) []mount.Mount {
	var mounts []mount.Mount
	if w.Overlay != "" {
		labels := map[string]string{LabelSession: s.info.ID, LabelOwner: s.state.Owner()}
		mounts = append(mounts, overlayMount(volume, w.Root, w.Overlay, labels))
	}
	for _, m := range w.Mounts {
		mounts = append(mounts, bind(m.Source, m.Target, m.ReadOnly))
	}
	return mounts
}
