package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"berth/configs"
	"berth/worktree"
	"berth/worktree/overlay"
)

// resultFile is what is known of a job's changes when its files are gone; it stays with the record.
const resultFile = "result.json"

// Results gives what jobs have done to their files: while these are there from them, later from what was kept. No keeper is needed.
type Results struct {
	store *worktree.Store
	home  string
	hands *Hands
}

// NewResults returns the results of jobs whose records are in dirs. home is the user's home directory. hands read what jobs have written.
func NewResults(dirs configs.Dirs, home string, hands *Hands) *Results {
	return &Results{store: worktree.NewStore(dirs.Cache, worktree.Reserve(dirs.State)), home: jobHome(home, userName()), hands: hands}
}

// NoFilesError says that a job has no files that could be looked at. Why completes "job x …".
type NoFilesError struct {
	Record Record
	Why    string
	Live   bool // it works on the user's own files
}

func (e *NoFilesError) Error() string { return "job " + e.Record.Handle + " " + e.Why }

// NoPathError says that a job's files hold nothing at a path.
type NoPathError struct{ Job, Path string }

func (e *NoPathError) Error() string { return fmt.Sprintf("job %s has no %q", e.Job, e.Path) }

// JobResult is what one job has made of its snapshot.
type JobResult struct {
	Record Record
	Result worktree.Result
	repo   *worktree.Repo
}

// Of finds what a job has changed up to now. Errors: [*NoFilesError], and those of [worktree.Store.Open] and [worktree.Repo.Result].
func (s *Results) Of(ctx context.Context, r Record) (*JobResult, error) {
	if r.Form == worktree.Live {
		return nil, &NoFilesError{Record: r, Why: "works on your own files", Live: true}
	}
	repo, err := s.store.Open(ctx, r.Repo)
	if err != nil {
		return nil, err
	}
	j := &JobResult{Record: r, repo: repo}
	kept := filepath.Join(r.Dirname, resultFile)
	if j.Result, err = worktree.ReadResult(kept); errors.Is(err, fs.ErrNotExist) {
		err = s.look(ctx, r, func(read worktree.Reader) (err error) {
			j.Result, err = repo.Result(ctx, read, workspaceDir(r), r.Snapshot)
			return err
		})
		if errors.Is(err, fs.ErrNotExist) { // it may have been removed this moment
			j.Result, err = worktree.ReadResult(kept)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.noFiles(r)
	}
	if err == nil && j.Result.Lost != "" {
		return nil, &NoFilesError{Record: r, Why: "left files that could not be read: " + j.Result.Lost}
	}
	return j, err
}

func (s *Results) noFiles(r Record) error {
	if r.State == Preparing {
		return &NoFilesError{Record: r, Why: "has not started yet"}
	}
	return &NoFilesError{Record: r, Why: "has no files"}
}

func (s *Results) look(ctx context.Context, r Record, fn func(worktree.Reader) error) error {
	f, err := worktree.OpenFiles(workspaceDir(r))
	if err != nil {
		return err
	}
	read := s.hands.Reader(f.Layers()...)
	return errors.Join(fn(read), read.Close())
}

// workspaceDir is where the workspace of a job is.
func workspaceDir(r Record) string {
	if r.Workspace != "" {
		return filepath.Join(filepath.Dir(filepath.Dir(r.Dirname)), namedDir, r.Workspace)
	}
	return filepath.Join(r.Dirname, workDir)
}

// Diff writes what the job has changed in its snapshot.
func (j *JobResult) Diff(ctx context.Context, w io.Writer, o worktree.DiffOptions) error {
	return j.repo.Diff(ctx, w, j.Record.Snapshot.Tree, j.Result.Tree, o)
}

// Apply is [worktree.Repo.Apply].
func (j *JobResult) Apply(ctx context.Context) (worktree.Applied, error) {
	return j.repo.Apply(ctx, j.Record.Snapshot, j.Result)
}

// Branch is [worktree.Repo.Branch]; without a message the commit names the job.
func (j *JobResult) Branch(ctx context.Context, name, message string) (worktree.Branched, error) {
	if message == "" {
		message = fmt.Sprintf("Changes by job %s\n\n%s\n", j.Record.Handle, j.Record.Line())
	}
	return j.repo.Branch(ctx, name, message, j.Record.Snapshot, j.Result)
}

// Copy copies a path of a job's to dest on this machine, or to stdout if dest is "-". A relative path is one below the directory that the job
// began in; absolute ones are below the root of its files, its /tmp, or its home directory. It returns what could not be copied.
// Errors: [*NoPathError], [*NoFilesError], [*InvalidError], [*worktree.NotFileError].
func (s *Results) Copy(ctx context.Context, r Record, path, dest string, stdout io.Writer) (_ []worktree.Skipped, err error) {
	from, rest, err := s.place(ctx, r, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.end()) }()
	var skipped []worktree.Skipped
	if dest == "-" {
		err = worktree.CopyFile(ctx, from.read, from.stack, rest, stdout)
	} else {
		skipped, err = worktree.CopyOut(ctx, from.read, from.stack, rest, dest)
	}
	var pe *fs.PathError
	if errors.Is(err, fs.ErrNotExist) && !(errors.As(err, &pe) && pe.Path == filepath.Dir(filepath.Clean(dest))) {
		return nil, &NoPathError{Job: r.Handle, Path: path}
	}
	return skipped, err
}

// origin is where files are copied from.
type origin struct {
	read  worktree.Reader
	stack overlay.Stack
	end   func() error
}

func nothing() error { return nil }

// place finds which files of a job's a path means, and the path in them.
func (s *Results) place(ctx context.Context, r Record, path string) (origin, string, error) {
	root := r.Repo
	if root == "" {
		root = r.Dir
	}
	abs := path
	if !filepath.IsAbs(path) {
		abs = filepath.Join(r.Dir, path)
	}
	abs = filepath.Clean(abs)
	places := []struct{ target, dir string }{{root, ""}, {"/tmp", tmpDir}, {s.home, homeDir}}
	// One may lie in another; the inner one covers it.
	slices.SortStableFunc(places, func(a, b struct{ target, dir string }) int { return len(b.target) - len(a.target) })
	for _, at := range places {
		rest, err := filepath.Rel(at.target, abs)
		if err != nil || !filepath.IsLocal(rest) || at.dir != "" && !filepath.IsAbs(path) {
			continue
		}
		if path == "" || strings.HasSuffix(path, "/") || strings.HasSuffix(path, "/.") {
			rest += "/." // what is in it
		}
		if at.dir == "" {
			o, err := s.files(ctx, r, root)
			return o, rest, err
		}
		dir := filepath.Join(r.Dirname, at.dir)
		if _, err := os.Stat(dir); err != nil {
			return origin{}, "", &NoFilesError{Record: r, Why: "has no " + at.target + " any more: it went with the session"}
		}
		read := s.hands.Reader(dir)
		read.root = r.Root
		return origin{read, overlay.Stack{dir}, read.Close}, rest, nil
	}
	return origin{}, "", &InvalidError{What: "path", Value: path, Why: "it is outside the job's own files",
		Hint: fmt.Sprintf("its files are those below %s, /tmp and %s", root, s.home)}
}

// files are those of a job's workspace, or what was kept of them.
func (s *Results) files(ctx context.Context, r Record, root string) (origin, error) {
	if r.Form == worktree.Live {
		return origin{overlay.Local{}, overlay.Stack{root}, nothing}, nil
	}
	f, err := worktree.OpenFiles(workspaceDir(r))
	if errors.Is(err, fs.ErrNotExist) {
		j, err := s.Of(ctx, r)
		if err != nil {
			return origin{}, err
		}
		return origin{j.repo.TreeReader(j.Result.Tree), nil, nothing}, nil
	}
	if err != nil {
		return origin{}, err
	}
	read := s.hands.Reader(f.Layers()...)
	return origin{read, f.Stack, read.Close}, nil
}

// Keep keeps what jobs have changed, for when their files are gone; it is to be called before they are removed, for all at once that may go on
// from each other. It goes on after an error, which is worth another try.
func (s *Results) Keep(ctx context.Context, records ...Record) error {
	type kept struct {
		record Record
		repo   *worktree.Repo
	}
	var todo []kept
	var layers []string
	var errs []error
	for _, r := range records {
		if r.Repo == "" || r.Form == worktree.Live || r.Snapshot.Tree == "" {
			continue
		}
		f, err := worktree.OpenFiles(workspaceDir(r))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Stat(filepath.Join(r.Dirname, resultFile)); err == nil {
			continue // by an earlier try
		}
		var repo *worktree.Repo
		if err == nil {
			repo, err = s.store.Open(ctx, r.Repo)
		}
		switch {
		case errors.As(err, new(*worktree.NotRepoError)), errors.As(err, new(*worktree.UnsafeOwnerError)),
			errors.As(err, new(*worktree.RefusedRootError)), errors.Is(err, fs.ErrNotExist): // nobody could use it
		case err != nil:
			errs = append(errs, err)
		default:
			todo = append(todo, kept{r, repo})
			layers = append(layers, f.Layers()...)
		}
	}
	read := s.hands.Reader(layers...)
	for _, k := range todo {
		err := k.repo.KeepResult(ctx, read, workspaceDir(k.record), k.record.Snapshot, filepath.Join(k.record.Dirname, resultFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, read.Close())...)
}
