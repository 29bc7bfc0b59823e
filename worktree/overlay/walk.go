package overlay

import (
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// changes tells what is different in the directory dir, as all layers show it, from below, as those from n on do. Both have the
// same parts from n on, so the names that the upper layers hold are all that matter.
func (w *walker) changes(dir, below view, n int, path string, fn func(Entry) error) error {
	upper := dir
	for i, part := range dir {
		if part.layer >= n {
			upper = dir[:i]
			break
		}
	}
	names, err := w.union(upper, path)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := join(path, name)
		now, err := w.lookupIn(dir, name, p)
		if err != nil {
			return err
		}
		was, err := w.lookupIn(below, name, p)
		if err != nil {
			return err
		}
		goesOn := now.isDir() && was.isDir() && sameBelow(now.parts, was.parts, n)
		if was != nil && !goesOn && (now == nil || now.isDir() || was.isDir()) {
			if err := fn(Entry{Path: p, Kind: Gone}); err != nil {
				return err
			}
		}
		into, err := w.tell(now, p, fn)
		if err != nil {
			return err
		}
		if into && name != ".git" {
			if goesOn {
				// The same parts, so that they are opened once.
				now.parts = append(now.parts[:len(now.parts)-len(was.parts)], was.parts...)
				err = w.changes(now.parts, was.parts, n, p, fn)
			} else {
				err = w.all(now.parts, p, true, fn)
			}
			if err != nil {
				return err
			}
		}
		w.forget(now, was)
	}
	return nil
}

// all tells everything that a directory holds, but for what is in a .git if those are to be passed by.
func (w *walker) all(dir view, path string, passGit bool, fn func(Entry) error) error {
	names, err := w.union(dir, path)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := join(path, name)
		now, err := w.lookupIn(dir, name, p)
		if err != nil {
			return err
		}
		into, err := w.tell(now, p, fn)
		if err != nil {
			return err
		}
		if into && !(passGit && name == ".git") {
			if err := w.all(now.parts, p, passGit, fn); err != nil {
				return err
			}
		}
		w.forget(now)
	}
	return nil
}

func (w *walker) list(path string, fn func(Entry) error) error {
	f, err := w.find(path)
	if err != nil {
		return err
	}
	if path = clean(path); path == "" {
		path = "."
	}
	into, err := w.tell(f, path, fn)
	if !into || err != nil {
		return err
	}
	return w.all(f.parts, clean(path), false, fn)
}

// tell gives an entry out, and says whether there is more in it.
func (w *walker) tell(f *found, path string, fn func(Entry) error) (into bool, err error) {
	if f == nil {
		return false, nil
	}
	e := newEntry(path, &f.st)
	switch {
	case e.Kind == Link:
		e.Target, err = w.readlink(f.in, f.name)
		if vanished(err) || err == unix.EINVAL { // it is no link any more
			return false, nil
		}
		if err != nil {
			return false, pathError(path, err)
		}
	case e.Kind == Dir && len(path) > MaxPath:
		e.Kind = Special
	}
	return e.Kind == Dir, fn(e)
}

// union gives the names in all parts of a directory, in order.
func (w *walker) union(dir view, path string) (names []string, err error) {
	for _, part := range dir {
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		if names, err = w.names(part, names); err != nil && !vanished(err) {
			return nil, pathError(path, err)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (w *walker) lookupIn(dir view, name, path string) (*found, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	f, err := w.lookup(dir, name)
	if err != nil {
		return nil, pathError(path, err)
	}
	return f, nil
}

// find looks a path up from the top. The error wraps [fs.ErrNotExist] when nothing is there.
func (w *walker) find(path string) (*found, error) {
	rest := clean(path)
	if rest == "" {
		f := &found{in: w.tops[0], name: ".", parts: w.tops}
		return f, pathErrorIf("find", path, w.stat(f.in, f.name, &f.st))
	}
	dir, base := w.tops, rest
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		base = rest[i+1:]
		if rest[:i] != w.lastDir {
			var err error
			if dir, err = w.findDir(rest[:i], path); err != nil {
				return nil, err
			}
			w.lastDir, w.lastView = rest[:i], dir
		}
		dir = w.lastView
	}
	return w.findName(dir, base, path)
}

func (w *walker) findDir(rest, path string) (view, error) {
	dir := w.tops
	for name := range strings.SplitSeq(rest, "/") {
		f, err := w.findName(dir, name, path)
		if err != nil {
			return nil, err
		}
		dir = f.parts // none if it is no directory: then nothing is found in it
	}
	return dir, nil
}

func (w *walker) findName(dir view, name, path string) (*found, error) {
	if name == "." || name == ".." || name == "" || strings.Contains(name, "\x00") {
		return nil, &fs.PathError{Op: "find", Path: path, Err: fs.ErrInvalid}
	}
	f, err := w.lookup(dir, name)
	if err == nil && f == nil {
		err = fs.ErrNotExist
	}
	return f, pathErrorIf("find", path, err)
}

// file opens a regular file. It looks before and after: opening something else can have effects.
func (w *walker) file(path string) (*os.File, Entry, error) {
	f, err := w.find(path)
	if err != nil {
		return nil, Entry{}, err
	}
	fail := func(err error) (*os.File, Entry, error) {
		if vanished(err) {
			err = fs.ErrNotExist
		}
		return nil, Entry{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(ErrNotRegular)
	}
	dir, err := w.fd(f.in)
	if err != nil {
		return fail(err)
	}
	fd, err := openat(dir, f.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return fail(err)
	}
	if err = unix.Fstat(fd, &f.st); err == nil && f.st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotRegular
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return fail(err)
	}
	return os.NewFile(uintptr(fd), path), newEntry(clean(path), &f.st), nil
}

// forget closes the directories that a walk will not come back to.
func (w *walker) forget(them ...*found) {
	for _, f := range them {
		if f != nil {
			for _, n := range f.parts {
				w.release(n)
			}
		}
	}
}

// clean gives a path from the top in the form of [Entry.Path], but for "." which is empty.
func clean(path string) string {
	path = strings.Trim(path, "/")
	if path == "." {
		return ""
	}
	return path
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func pathError(path string, err error) error {
	return &fs.PathError{Op: "read", Path: path, Err: err}
}

func pathErrorIf(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
