package worktree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// place is a directory in which files are written that others may be changing: whatever they do, no symbolic link is followed on
// the way to one. os.Root would follow those that stay inside, which lead into .git as well.
type place struct{ top *os.File }

func openPlace(path string) (*place, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return &place{f}, err
}

func (p *place) close() error { return p.top.Close() }

// errLink says that a directory on the way is a symbolic link, or no directory.
var errLink = errors.New("a directory above it is a symbolic link or a file")

// dir opens a directory; the caller closes it. made, if not nil, makes those that are missing and is told of each.
func (p *place) dir(path string, made func(path string)) (*os.File, error) {
	fd, err := unix.Openat(int(p.top.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p.top.Name(), Err: err}
	}
	done := ""
	for part := range strings.SplitSeq(path, "/") {
		if path == "" || path == "." {
			break
		}
		done = strings.TrimPrefix(done+"/"+part, "/")
		next, err := unix.Openat(fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT && made != nil {
			if err = unix.Mkdirat(fd, part, 0o777); err == nil {
				made(done)
				next, err = unix.Openat(fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			}
		}
		unix.Close(fd)
		if err == unix.ELOOP || err == unix.ENOTDIR {
			return nil, &fs.PathError{Op: "open", Path: done, Err: errLink}
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: done, Err: err}
		}
		fd = next
	}
	return os.NewFile(uintptr(fd), path), nil
}

// in calls fn with the directory that holds path, and the last part of path. The error names the path.
func (p *place) in(path string, made func(string), fn func(dir int, name string) error) error {
	parent, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	d, err := p.dir(parent, made)
	if err != nil {
		return err
	}
	defer d.Close()
	err = fn(int(d.Fd()), name)
	if code, ok := err.(unix.Errno); ok {
		return &fs.PathError{Op: "write", Path: path, Err: code}
	}
	return err
}

// lstat is what is at path. The error wraps [fs.ErrNotExist] when there is nothing, also when a directory above is missing.
func (p *place) lstat(path string) (st unix.Stat_t, err error) {
	err = p.in(path, nil, func(dir int, name string) error {
		return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

// open opens a regular file for reading; the caller closes it.
func (p *place) open(path string) (f *os.File, err error) {
	err = p.in(path, nil, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), path)
		return nil
	})
	return f, err
}

func (p *place) readlink(path string) (to string, err error) {
	err = p.in(path, nil, func(dir int, name string) error {
		b := make([]byte, 8<<10)
		n, err := unix.Readlinkat(dir, name, b)
		if err == nil {
			to = string(b[:n])
		}
		return err
	})
	return to, err
}

// createAt makes a new file in an open directory; the caller closes it.
func createAt(dir int, name string, perm fs.FileMode) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// kindOf is the file type of a stat.
func kindOf(st unix.Stat_t) uint32 { return uint32(st.Mode) & unix.S_IFMT }

// unmoved says whether nothing was written between two looks.
func unmoved(a, b unix.Stat_t) bool {
	return a.Ino == b.Ino && a.Dev == b.Dev && a.Size == b.Size && a.Mode == b.Mode && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

func setTime(dir int, name string, t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// tempName is a name that nothing else in a directory has.
func tempName(n int) string { return fmt.Sprintf(".berth-%d-%d", os.Getpid(), n) }
