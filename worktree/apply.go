package worktree

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Applied says what [Repo.Apply] has done to the user's files. Paths are sorted.
type Applied struct {
	Written []string `json:"written"` // made or changed
	Removed []string `json:"removed"`
}

// Apply puts what a job has changed in its snapshot into the user's working tree, whatever that has become since: all of it, or on any error
// nothing. Changes of both sides to one file are merged line by line. What is there already is fine, so doing it twice is.
//
// The user's index and .git stay as they are. New files belong to the caller, with the permissions that the umask gives.
// Errors: [*ConflictError], and those of [Repo.Snapshot].
func (r *Repo) Apply(ctx context.Context, snap Snapshot, res Result) (Applied, error) {
	done, err := r.apply(ctx, snap, res)
	if err != nil {
		return Applied{}, fmt.Errorf("apply: %w", err)
	}
	return done, nil
}

func (r *Repo) apply(ctx context.Context, snap Snapshot, res Result) (Applied, error) {
	done := Applied{Written: []string{}, Removed: []string{}}
	if res.Tree == snap.Tree {
		return done, nil
	}
	if err := os.MkdirAll(r.cache, 0o700); err != nil {
		return done, err
	}
	unlock, _, err := lock(filepath.Join(r.cache, "lock-apply"), false)
	if err != nil {
		return done, err
	}
	defer unlock()
	p, err := openPlace(r.root)
	if err != nil {
		return done, err
	}
	defer p.close()
	a := &application{repo: r, place: p}
	if err := a.plan(ctx, snap, res); err != nil || len(a.todo) == 0 {
		return done, err
	}
	if err := a.run(ctx); err != nil {
		return done, err
	}
	for _, s := range a.todo {
		if s.new == nil {
			done.Removed = append(done.Removed, s.path)
		} else {
			done.Written = append(done.Written, s.path)
		}
	}
	return done, nil
}

// plan finds out what is to be done to the user's files as they are now.
func (a *application) plan(ctx context.Context, snap Snapshot, res Result) error {
	now, err := a.repo.Snapshot(ctx, "")
	if err != nil {
		return err
	}
	var trees [3]*index
	for i, id := range []string{snap.Tree, now.Tree, res.Tree} {
		if trees[i], err = a.repo.treeIndex(ctx, id); err != nil {
			return err
		}
	}
	ours, theirs := trees[1], trees[2]
	tmp, release, err := a.repo.tempDir()
	if err != nil {
		return err
	}
	defer release()
	var conflicts []Conflict
	if a.kept, conflicts, err = a.repo.merge(ctx, trees[0], ours, theirs, tmp); err != nil {
		return err
	}
	a.submodules = now.Submodules
	conflicts = slices.DeleteFunc(conflicts, func(c Conflict) bool {
		e := theirs.find(c.Path)
		return e != nil && a.matches(c.Path, e)
	})
	for _, c := range difference(ours, a.kept) {
		if c.old == nil && a.matches(c.path, c.new) {
			continue // it is ignored here, and the same as the job's
		}
		a.todo = append(a.todo, step{fileChange: c})
	}
	conflicts = append(conflicts, a.check()...)
	if len(conflicts) == 0 {
		return nil
	}
	slices.SortStableFunc(conflicts, func(a, b Conflict) int { return cmp.Compare(a.Path, b.Path) })
	return &ConflictError{Conflicts: slices.CompactFunc(conflicts, func(a, b Conflict) bool { return a.Path == b.Path })}
}

// application is one writing of changes into the user's files.
type application struct {
	repo       *Repo
	place      *place
	submodules []Submodule
	kept       *index // what will be there afterwards
	todo       []step
	stage      string // a directory at the top, for what is new and what was there
	stageDir   *os.File
	undo       []func() error // latest last
	each       func() error   // for tests: called before each step, which its error makes fail
}

// step is a change, and what was seen at its path before.
type step struct {
	fileChange
	stat unix.Stat_t // when old is there
}

// matches says whether the file on disk is the one in a tree.
func (a *application) matches(path string, e *entry) bool {
	_, ok := a.look(path, e)
	return ok
}

// look compares the file at path with an entry of a tree, and returns its stat from before it was read.
func (a *application) look(path string, e *entry) (unix.Stat_t, bool) {
	st, err := a.place.lstat(path)
	if err != nil {
		return st, false
	}
	h := a.repo.hasher()
	switch {
	case e.mode == modeLink && kindOf(st) == unix.S_IFLNK:
		to, err := a.place.readlink(path)
		if err != nil {
			return st, false
		}
		fmt.Fprintf(h, "blob %d\x00%s", len(to), to)
	case e.mode != modeLink && kindOf(st) == unix.S_IFREG:
		if exec := st.Mode&0o100 != 0; exec != (e.mode == modeExec) && a.repo.config.get("core.filemode") != "false" {
			return st, false
		}
		f, err := a.place.open(path)
		if err != nil {
			return st, false
		}
		defer f.Close()
		fmt.Fprintf(h, "blob %d\x00", st.Size)
		if n, err := io.Copy(h, f); err != nil || n != st.Size {
			return st, false
		}
	default:
		return st, false
	}
	return st, string(h.Sum(nil)) == e.oid
}

func (r *Repo) hasher() hash.Hash {
	if r.hashSize() == sha256.Size {
		return sha256.New()
	}
	return sha1.New()
}

// check finds what of the user's is in the way, and remembers what it has seen.
func (a *application) check() []Conflict {
	var list []Conflict
	gone := map[string]bool{}
	for _, s := range a.todo {
		if s.old != nil {
			gone[s.path] = true
		}
	}
	for i := range a.todo {
		s := &a.todo[i]
		why := ""
		if s.old != nil {
			var same bool
			if s.stat, same = a.look(s.path, s.old); !same {
				why = "was changed a moment ago"
			}
		} else {
			why = a.inTheWay(s.path, gone)
		}
		if why == "" && s.new != nil {
			why = a.foreign(s.path)
		}
		if why != "" {
			list = append(list, Conflict{Path: s.path, Why: why})
		}
	}
	return list
}

// inTheWay says what the user has at a path where a new file is to be, unless it will be gone by then.
func (a *application) inTheWay(path string, gone map[string]bool) string {
	for i := range path {
		if path[i] == '/' && gone[path[:i]] {
			return "" // below what is a file now
		}
	}
	st, err := a.place.lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case errors.Is(err, errLink):
		return "lies below what is a symbolic link or a file in your checkout"
	case err != nil:
		return "cannot be looked at: " + err.Error()
	case kindOf(st) != unix.S_IFDIR:
		return "is in the way: git ignores it in your checkout"
	}
	// A directory: it goes when all in it goes.
	if rest := a.rest(path, gone); rest != "" {
		return "is a directory in your checkout, with " + quotePath(rest) + " in it"
	}
	return ""
}

// rest is something below a directory that will still be there when what is gone is gone; "" when nothing is.
func (a *application) rest(dir string, gone map[string]bool) string {
	d, err := a.place.dir(dir, nil)
	if err != nil {
		return dir
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return dir
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if gone[p] {
			continue
		}
		if !e.IsDir() {
			return p
		}
		if rest := a.rest(p, gone); rest != "" {
			return rest
		}
	}
	return ""
}

// foreign says whether a path lies in a repository that is none of the user's submodules.
func (a *application) foreign(path string) string {
	for i := range path {
		if path[i] != '/' {
			continue
		}
		dir := path[:i]
		if slices.ContainsFunc(a.submodules, func(s Submodule) bool { return s.Path == dir }) {
			continue
		}
		if _, err := a.place.lstat(dir + "/.git"); err == nil {
			return "lies in a nested git repository in your checkout"
		}
	}
	return ""
}

// run does what is to be done. When something fails it puts back what was.
func (a *application) run(ctx context.Context) (err error) {
	if a.stage, err = os.MkdirTemp(a.repo.root, ".berth-apply-"); err != nil {
		return err
	}
	defer os.RemoveAll(a.stage)
	// A job with the user's own files may put a link in its place.
	if a.stageDir, err = a.place.dir(filepath.Base(a.stage), nil); err != nil {
		return err
	}
	defer a.stageDir.Close()
	// So that nobody takes it for a part of the project meanwhile.
	ignore, err := createAt(int(a.stageDir.Fd()), ".gitignore", 0o600)
	if err != nil {
		return err
	}
	_, err = ignore.WriteString("*\n")
	if err = errors.Join(err, ignore.Close()); err != nil {
		return err
	}
	if err := a.prepare(ctx); err != nil {
		return err
	}
	if err := a.replace(); err != nil {
		for _, back := range slices.Backward(a.undo) {
			err = errors.Join(err, back())
		}
		return err
	}
	return nil
}

// prepare writes all new contents beside the files, which is what can take long or fill the disk.
func (a *application) prepare(ctx context.Context) error {
	var oids []string
	var steps []int
	for i, s := range a.todo {
		if s.new != nil {
			oids, steps = append(oids, hex.EncodeToString([]byte(s.new.oid))), append(steps, i)
		}
	}
	stage := int(a.stageDir.Fd())
	return a.repo.blobs(ctx, oids, func(i int, size int64, in io.Reader) error {
		s := &a.todo[steps[i]]
		if s.new.mode == modeLink {
			to, err := io.ReadAll(io.LimitReader(in, 8<<10))
			if err != nil {
				return err
			}
			return unix.Symlinkat(string(to), stage, staged(steps[i]))
		}
		perm := fs.FileMode(0o666)
		if s.new.mode == modeExec {
			perm = 0o777
		}
		f, err := createAt(stage, staged(steps[i]), perm)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.Copy(f, in); err != nil {
			return err
		}
		if s.old == nil || s.old.mode == modeLink {
			return nil
		}
		// The user's own permissions stay, but for the bits that say whether it can be run.
		keep := fs.FileMode(s.stat.Mode & 0o777)
		switch {
		case s.new.mode == s.old.mode:
		case s.new.mode == modeExec:
			keep |= keep & 0o444 >> 2
		default:
			keep &^= 0o111
		}
		return f.Chmod(keep)
	})
}

func staged(i int) string { return fmt.Sprintf("new-%d", i) }
func saved(i int) string  { return fmt.Sprintf("old-%d", i) }

// replace moves the old files away and the new ones in.
func (a *application) replace() error {
	do := func(i int, step func(int) error) error {
		if a.each != nil {
			if err := a.each(); err != nil {
				return err
			}
		}
		return step(i)
	}
	for i, s := range a.todo {
		if s.new == nil {
			if err := do(i, a.remove); err != nil {
				return err
			}
		}
	}
	for i, s := range a.todo {
		var err error
		switch {
		case s.new == nil:
		case s.old == nil:
			err = do(i, a.add)
		default:
			err = do(i, a.exchange)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// still is an error unless a step's old file is as it was when it was compared.
func still(dir int, name string, s step) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if !unmoved(st, s.stat) {
		return &ConflictError{Conflicts: []Conflict{{Path: s.path, Why: "was changed a moment ago"}}}
	}
	return nil
}

// remove moves an old file away, and removes the directories that it leaves empty.
func (a *application) remove(i int) error {
	s, stage := a.todo[i], int(a.stageDir.Fd())
	err := a.place.in(s.path, nil, func(dir int, name string) error {
		if err := still(dir, name, s); err != nil {
			return err
		}
		return unix.Renameat(dir, name, stage, saved(i))
	})
	if err != nil {
		return err
	}
	a.undo = append(a.undo, func() error {
		return a.place.in(s.path, nil, func(dir int, name string) error { return unix.Renameat(stage, saved(i), dir, name) })
	})
	return a.prune(path.Dir(s.path))
}

// prune removes a directory if it is empty and nothing will be in it, and then the one above.
func (a *application) prune(dir string) error {
	for dir := dir; dir != "." && !a.kept.has(dir); dir = path.Dir(dir) {
		if slices.ContainsFunc(a.submodules, func(s Submodule) bool { return s.Path == dir }) {
			return nil
		}
		st, err := a.place.lstat(dir)
		if err != nil {
			return err
		}
		err = a.place.in(dir, nil, func(parent int, name string) error { return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR) })
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			return nil // something of the user's
		}
		if err != nil {
			return err
		}
		a.remake(dir, st)
	}
	return nil
}

// exchange puts a new file in an old one's place, so that nobody sees the path without one.
func (a *application) exchange(i int) error {
	s, stage := a.todo[i], int(a.stageDir.Fd())
	return a.place.in(s.path, nil, func(dir int, name string) error {
		if err := still(dir, name, s); err != nil {
			return err
		}
		if err := unix.Linkat(dir, name, stage, saved(i), 0); err != nil {
			// Not all file systems have hard links, nor may everybody make them to files of others.
			if err := unix.Renameat(dir, name, stage, saved(i)); err != nil {
				return err
			}
		}
		a.undo = append(a.undo, func() error {
			return a.place.in(s.path, nil, func(dir int, name string) error { return unix.Renameat(stage, saved(i), dir, name) })
		})
		return unix.Renameat(stage, staged(i), dir, name)
	})
}

// add moves a new file to where there is none.
func (a *application) add(i int) error {
	s, stage := a.todo[i], int(a.stageDir.Fd())
	made := func(dir string) {
		a.undo = append(a.undo, func() error {
			return a.place.in(dir, nil, func(parent int, name string) error { return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR) })
		})
	}
	return a.place.in(s.path, made, func(dir int, name string) error {
		var st unix.Stat_t
		err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && kindOf(st) == unix.S_IFDIR {
			err = a.clear(s.path)
		} else if err == nil {
			err = &ConflictError{Conflicts: []Conflict{{Path: s.path, Why: "was made a moment ago"}}}
		} else if err == unix.ENOENT {
			err = nil
		}
		if err != nil {
			return err
		}
		if err := unix.Renameat(stage, staged(i), dir, name); err != nil {
			return err
		}
		a.undo = append(a.undo, func() error {
			return a.place.in(s.path, nil, func(dir int, name string) error { return unix.Unlinkat(dir, name, 0) })
		})
		return nil
	})
}

// clear removes a directory that holds nothing but empty ones.
func (a *application) clear(dir string) error {
	d, err := a.place.dir(dir, nil)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := a.clear(path.Join(dir, n)); err != nil {
			return err
		}
	}
	st, err := a.place.lstat(dir)
	if err != nil {
		return err
	}
	err = a.place.in(dir, nil, func(parent int, name string) error { return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR) })
	if err != nil {
		return err
	}
	a.remake(dir, st)
	return nil
}

// remake has an empty directory that was removed made again if things are undone.
func (a *application) remake(dir string, was unix.Stat_t) {
	a.undo = append(a.undo, func() error {
		return a.place.in(dir, nil, func(parent int, name string) error {
			if err := unix.Mkdirat(parent, name, 0o700); err != nil {
				return err
			}
			return unix.Fchmodat(parent, name, uint32(was.Mode&0o7777), 0)
		})
	})
}
