package worktree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/worktree/overlay"
)

// Store is berth's own storage of file states: below one directory, one bare repository for each
// repository of the user's. Its methods may be called at once from several goroutines and processes. [Store.Close] lets go of what is in use.
type Store struct {
	dir      string
	reserved []string
	holds    holds
	remove   Remover

	objectsAt string // instead of jobObjects, for tests that have no container
}

// Option changes how a [Store] is made.
type Option func(*Store)

// Reserve names further directories of berth's (its state) that no job may see: a repository
// or live directory that holds one of them is refused.
func Reserve(dirs ...string) Option {
	return func(s *Store) { s.reserved = append(s.reserved, dirs...) }
}

// RemoveWith says how files are removed that jobs may have made; by default with [overlay.Remove].
func RemoveWith(remove Remover) Option {
	return func(s *Store) { s.remove = remove }
}

// NewStore returns the store in dir, normally $XDG_CACHE_HOME/berth. It does no I/O: the directory is made
// when something is stored.
func NewStore(dir string, opts ...Option) *Store {
	s := &Store{dir: dir, reserved: []string{dir}, remove: overlay.Remove}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Repo is one working tree of a user's repository. It holds nothing that needs closing.
type Repo struct {
	store     *Store
	root      string // working tree
	gitDir    string // the user's, of this working tree
	commonDir string // the user's, of all working trees
	format    string // sha1 or sha256
	id        string
	cache     string
	config    config
}

// Root is the top of the working tree: absolute, symbolic links resolved. Jobs see their files at this path.
func (r *Repo) Root() string { return r.root }

// ID names the repository: stable, safe in file names, such as "name-1a2b3c4d", and the same for
// all linked worktrees of one repository.
func (r *Repo) ID() string { return r.id }

// CacheDir is the repository's directory in the store. It may not exist yet. Names in it that begin with
// "git", "tmp", "index", "layers" or "lock" are this package's; others are free.
func (r *Repo) CacheDir() string { return r.cache }

// Open finds the repository whose working tree holds dir, which may be a subdirectory, lie in a linked
// worktree, or be reached through symbolic links. It writes nothing.
//
// Errors: [*NotRepoError], [*UnsafeOwnerError], [*RefusedRootError], [*GitError].
func (s *Store) Open(ctx context.Context, dir string) (*Repo, error) {
	real, err := filepath.Abs(dir)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	out, err := git{dir: real, userReads: true}.run(ctx, "rev-parse", "--path-format=absolute",
		"--is-inside-work-tree", "--show-object-format", "--git-dir", "--git-common-dir", "--show-toplevel")
	var failed *GitError
	if errors.As(err, &failed) {
		switch {
		case strings.Contains(failed.Stderr, "dubious ownership") || strings.Contains(failed.Stderr, "unsafe repository"):
			return nil, &UnsafeOwnerError{Root: unsafeRoot(real)}
		case strings.Contains(failed.Stderr, "not a git repository"), strings.Contains(failed.Stderr, "must be run in a work tree"):
			return nil, &NotRepoError{Dir: dir}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if lines[0] != "true" {
		return nil, &NotRepoError{Dir: dir}
	}
	if len(lines) != 5 {
		return nil, &RefusedRootError{Root: real, Why: "has a line break in its path"}
	}
	r := &Repo{store: s, format: lines[1]}
	for i, p := range []*string{&r.gitDir, &r.commonDir, &r.root} {
		if *p, err = filepath.EvalSymlinks(lines[i+2]); err != nil {
			return nil, fmt.Errorf("open repository: %w", err)
		}
	}
	if err := refuse(r.root, s.reserved); err != nil {
		return nil, err
	}
	if r.cache, err = resolve(s.dir); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r.id = repoID(r.commonDir)
	r.cache = filepath.Join(r.cache, r.id)
	out, err = r.userGit().run(ctx, "config", "--list", "-z")
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r.config = parseConfig(out)
	return r, nil
}

// unsafeRoot is the nearest directory above dir with a .git in it.
func unsafeRoot(dir string) string {
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if exists(filepath.Join(d, ".git")) {
			return d
		}
	}
	return dir
}

// refuse is the error for a directory that is too much to give to a job.
func refuse(root string, reserved []string) error {
	if root == "/" {
		return &RefusedRootError{Root: root, Why: "is the root of the file system"}
	}
	for _, system := range []string{"/proc", "/sys", "/dev"} {
		if inside(root, system) {
			return &RefusedRootError{Root: root, Why: "belongs to the system"}
		}
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		if home, err := resolve(home); err == nil && inside(home, root) {
			why := "is your home directory"
			if home != root {
				why = "holds your home directory"
			}
			return &RefusedRootError{Root: root, Why: why}
		}
	}
	for _, d := range reserved {
		d, err := resolve(d)
		switch {
		case err != nil:
		case inside(d, root):
			return &RefusedRootError{Root: root, Why: "holds berth's own files in " + d}
		case inside(root, d):
			return &RefusedRootError{Root: root, Why: "is among berth's own files in " + d}
		}
	}
	return nil
}

func repoID(commonDir string) string {
	name := filepath.Base(commonDir)
	if name == ".git" {
		name = filepath.Base(filepath.Dir(commonDir))
	}
	name = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '_'
	}, strings.TrimSuffix(name, ".git"))
	sum := sha256.Sum256([]byte(commonDir))
	return fmt.Sprintf("%s-%x", name[:min(len(name), 40)], sum[:4])
}

// userGit reads the user's repository: refs, objects, configuration; never its index or files.
func (r *Repo) userGit() git {
	return git{dir: r.root, gitDir: r.gitDir, workTree: r.root, userReads: true}
}

func (r *Repo) hashSize() int {
	if r.format == "sha256" {
		return 32
	}
	return 20
}

// bare is berth's own repository for this one.
func (r *Repo) bare() string { return filepath.Join(r.cache, "git") }

// written is where new blobs and trees go. It borrows from nobody, and the bare repository borrows from it: a git that is to write an
// object which a store it borrows from has already touches the time of that object's file, and the user's .git would change.
func (r *Repo) written() string { return filepath.Join(r.cache, "git-objects") }

// lock keeps other processes out of what git does not guard itself: making the bare repository, changing its
// alternates, and handing out temporary directories while GC looks for dead ones.
func (r *Repo) lock() (func(), error) {
	if err := os.MkdirAll(r.cache, 0o700); err != nil {
		return nil, err
	}
	unlock, _, err := lock(filepath.Join(r.cache, "lock"), false)
	return unlock, err
}

// prepare makes berth's bare repository where there is none, and lets it borrow from the given object stores.
func (r *Repo) prepare(objects ...string) error {
	list := filepath.Join(r.bare(), "objects/info/alternates")
	objects = append([]string{r.written()}, objects...)
	missing := func() (have string, lines []string) {
		have = readSmall(list)
		for _, o := range objects {
			// git reads a line that begins with a quote as quoted, a # as a comment; an absolute path has neither.
			if line := o + "\n"; !slices.Contains(slices.Collect(strings.Lines(have)), line) {
				lines = append(lines, line)
			}
		}
		return have, lines
	}
	if _, lines := missing(); len(lines) == 0 && exists(filepath.Join(r.bare(), "HEAD")) {
		return nil
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if !exists(r.bare()) {
		tmp, err := os.MkdirTemp(r.cache, "git-new-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		g := gitDir{head: "ref: refs/heads/main", config: append(formatConfig(r.format, true), section("gc", ""), configLine("auto", "0"))}
		if err := g.make(tmp); err != nil {
			return err
		}
		for _, d := range []string{"info", "pack"} {
			if err := os.MkdirAll(filepath.Join(r.written(), d), 0o700); err != nil {
				return err
			}
		}
		if err := os.Rename(tmp, r.bare()); err != nil {
			return err
		}
	}
	have, lines := missing()
	if len(lines) == 0 {
		return nil
	}
	return writeFile(list, have+strings.Join(lines, ""))
}

// tempDir makes a directory that GC leaves alone until release is called or this process is dead.
func (r *Repo) tempDir() (dir string, release func(), err error) {
	unlock, err := r.lock()
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	if err := os.MkdirAll(filepath.Join(r.cache, "tmp"), 0o700); err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp(filepath.Join(r.cache, "tmp"), "")
	if err != nil {
		return "", nil, err
	}
	free, _, err := lock(dir, false)
	if err != nil {
		os.Remove(dir)
		return "", nil, err
	}
	return dir, func() {
		os.RemoveAll(dir)
		free()
	}, nil
}

// GCReport says what [Store.GC] removed.
type GCReport struct {
	Removed []string `json:"removed"` // paths of what was removed
}

// How long things are kept that nothing refers to for certain.
const (
	keepIndex = 30 * 24 * time.Hour // records live 7 days
	keepStray = time.Hour           // no git command of ours takes that long
)

// GC removes what dead processes left in the store: temporary directories, stray lock files and half-written
// objects; and what is too old for any record: saved indexes, and objects that snapshots and results wrote. It never touches
// what a workspace that exists uses. It goes on after an error and joins them.
func (s *Store) GC(ctx context.Context) (GCReport, error) {
	var report GCReport
	var errs []error
	remove := func(path string) {
		if err := os.RemoveAll(path); err != nil {
			errs = append(errs, err)
			return
		}
		report.Removed = append(report.Removed, path)
	}
	repos, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return report, nil
	}
	if err != nil {
		return report, fmt.Errorf("clean store: %w", err)
	}
	for _, e := range repos {
		cache := filepath.Join(s.dir, e.Name())
		if !exists(filepath.Join(cache, "git")) {
			continue
		}
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		if err := collect(cache, remove); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return report, fmt.Errorf("clean store: %w", err)
	}
	return report, nil
}

// collect finds the rubbish of one repository.
func collect(cache string, remove func(path string)) error {
	unlock, _, err := lock(filepath.Join(cache, "lock"), false)
	if err != nil {
		return err
	}
	defer unlock()
	temps, _ := filepath.Glob(filepath.Join(cache, "tmp", "*"))
	for _, t := range temps {
		free, ok, err := lock(t, true)
		if err == nil && ok {
			remove(t)
			free()
		}
	}
	for pattern, age := range map[string]time.Duration{
		"git-new-*": keepStray, "git/*.lock": keepStray, "git-objects/??/tmp_obj_*": keepStray,
		"git-objects/pack/tmp_*": keepStray, "git-objects/tmp_objdir-*": keepStray,
		"git-objects/??/*": keepIndex, "git-objects/pack/pack-*": keepIndex, "index/*": keepIndex, "index/.tmp-*": keepStray,
	} {
		found, _ := filepath.Glob(filepath.Join(cache, pattern))
		for _, f := range found {
			if info, err := os.Lstat(f); err == nil && time.Since(info.ModTime()) > age {
				remove(f)
			}
		}
	}
	return nil
}
