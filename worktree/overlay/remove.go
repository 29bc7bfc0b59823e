package overlay

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// flatDepth is the depth at which Remove moves a directory up to the top, so as to have few open.
	flatDepth = 64
	// removePasses is how often a directory is read anew that somebody fills while it is emptied.
	removePasses = 8
	// removeErrors is how many errors are told: a million files that cannot be removed have one reason.
	removeErrors = 8
)

// Remove removes directories with all they hold, whatever permissions a job has set, following no symbolic link. One that is
// not there is fine. It goes on after an error and joins them, the first few.
//
// A path is absolute. The directory that it is in is the caller's, so links are followed above it.
func Remove(ctx context.Context, dirs ...string) error { return removeEach(ctx, dirs, false) }

// Empty is Remove that leaves the directories themselves, as where they are mount points.
func Empty(ctx context.Context, dirs ...string) error { return removeEach(ctx, dirs, true) }

func removeEach(ctx context.Context, dirs []string, keep bool) error {
	var errs []error
	for _, dir := range dirs {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, remove(ctx, dir, keep))
	}
	return errors.Join(errs...)
}

func remove(ctx context.Context, dir string, keep bool) error {
	parent, name := filepath.Split(filepath.Clean(dir))
	if !filepath.IsAbs(dir) || name == "" {
		return &fs.PathError{Op: "remove", Path: dir, Err: fs.ErrInvalid}
	}
	fd, err := openat(unix.AT_FDCWD, parent, passFlags&^unix.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	r := remover{ctx: ctx, keep: keep, top: -1, euid: unix.Geteuid()}
	if err := r.entry(fd, name, dir, 0); err != nil {
		r.fail(dir, err)
	}
	return errors.Join(r.errs...)
}

type remover struct {
	ctx   context.Context
	keep  bool // the top itself
	top   int  // what is to be removed, when it is open
	moved int  // directories that were moved up to it
	euid  int
	buf   []byte
	errs  []error
}

// fail notes an error, with the path at which it was met as far as that is known.
func (r *remover) fail(path string, err error) {
	if len(r.errs) < removeErrors {
		r.errs = append(r.errs, &fs.PathError{Op: "remove", Path: path, Err: err})
	}
}

// entry removes what is called name in a directory. Only the end of the context and the caller's own errors are returned.
func (r *remover) entry(dir int, name, path string, depth int) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.Unlinkat(dir, name, 0)
	} else if err == nil {
		// An empty one needs no permissions of its own: so goes overlayfs's work directory, which is root's.
		err = r.rmdir(dir, name, depth)
		if err != nil && err != unix.ENOENT {
			err = r.directory(dir, name, path, depth, &st)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// directory removes a directory that holds something.
func (r *remover) directory(dir int, name, path string, depth int, st *unix.Stat_t) error {
	if st.Mode&0o700 != 0o700 && int(st.Uid) == r.euid {
		if err := chmod(dir, name, 0o700); err != nil {
			return err
		}
	}
	if depth >= flatDepth && r.moveUp(dir, name) {
		return nil
	}
	fd, err := openat(dir, name, dirFlags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if depth == 0 {
		r.top = fd
	}
	for pass := 0; ; pass++ {
		moved, failed := r.moved, len(r.errs)
		n, err := r.contents(fd, path, depth)
		if err != nil || n == 0 && r.keeps(depth) {
			return err
		}
		err = r.rmdir(dir, name, depth)
		switch {
		case err != unix.ENOTEMPTY && err != unix.EEXIST:
			return err
		case len(r.errs) > failed || len(r.errs) == removeErrors:
			return nil // that says why
		case depth == 0 && r.moved > moved: // what came up from below is removed in the next
			pass = 0
		case pass == removePasses:
			return err
		}
	}
}

// rmdir removes a directory, if it is empty and to go.
func (r *remover) rmdir(dir int, name string, depth int) error {
	if r.keeps(depth) {
		return unix.ENOTEMPTY
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

func (r *remover) keeps(depth int) bool { return r.keep && depth == 0 }

// contents removes what a directory holds, and returns how much that was.
func (r *remover) contents(fd int, path string, depth int) (int, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return 0, err
	}
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	names, err := readNames(fd, r.buf, nil)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		err := r.entry(fd, name, path+"/"+name, depth+1)
		if r.ctx.Err() != nil {
			return 0, r.ctx.Err()
		}
		if err != nil {
			r.fail(path+"/"+name, err)
		}
	}
	return len(names), nil
}

// moveUp moves a directory to the top, under a name that is free there. If that cannot be it stays where it is.
func (r *remover) moveUp(dir int, name string) bool {
	for range removePasses {
		r.moved++
		switch err := unix.Renameat(dir, name, r.top, ".berth-remove-"+strconv.Itoa(r.moved)); err {
		case nil:
			return true
		case unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR:
		default:
			return false
		}
	}
	return false
}
