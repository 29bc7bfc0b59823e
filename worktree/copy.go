package worktree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// copyFile copies a regular file to a new one. Where the file system can share the contents of two files, they are shared.
func copyFile(from, to string, perm fs.FileMode) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	return errors.Join(copyContents(out, in), out.Close())
}

func copyContents(out, in *os.File) error {
	if clone(out, in) == nil {
		return nil
	}
	_, err := io.Copy(out, in)
	return err
}

// copyTree copies what is in the directory from into the directory to, and tells each file and link. What is there already stays. Permissions
// and times are kept; sockets, pipes and devices are left out. No link leads out of either directory.
func copyTree(ctx context.Context, from, to string, copied func(path string)) error {
	src, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	c := &treeCopy{ctx: ctx, src: src, dst: dst, copied: copied}
	if err := c.below("."); err != nil {
		return err
	}
	for _, d := range slices.Backward(c.dirs) { // what is in them has been made
		if err := dst.Chmod(d.path, d.info.Mode().Perm()); err != nil {
			return err
		}
		if err := dst.Chtimes(d.path, time.Time{}, d.info.ModTime()); err != nil {
			return err
		}
	}
	return nil
}

// treeCopy is one copy of a tree. It does not walk through [fs.FS], which knows no names but in UTF-8.
type treeCopy struct {
	ctx      context.Context
	src, dst *os.Root
	copied   func(path string)
	dirs     []copiedDir // made, parents first
}

type copiedDir struct {
	path string
	info fs.FileInfo
}

func (c *treeCopy) below(dir string) error {
	d, err := c.src.Open(dir)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *treeCopy) entry(p string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	info, err := c.src.Lstat(p)
	if err != nil {
		return err
	}
	there, err := c.dst.Lstat(p)
	switch {
	case err == nil && info.IsDir() && there.IsDir():
		return c.below(p)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	switch {
	case info.IsDir():
		if err := c.dst.Mkdir(p, 0o700); err != nil {
			return err
		}
		c.dirs = append(c.dirs, copiedDir{p, info})
		return c.below(p)
	case info.Mode().IsRegular():
		err = copyIn(c.src, c.dst, p, info)
	case info.Mode()&fs.ModeSymlink != 0:
		var target string
		if target, err = c.src.Readlink(p); err == nil {
			err = c.dst.Symlink(target, p)
		}
	default:
		return nil
	}
	if err == nil && c.copied != nil {
		c.copied(p)
	}
	return err
}

func copyIn(src, dst *os.Root, path string, info fs.FileInfo) error {
	in, err := src.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dst.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(copyContents(out, in), out.Chmod(info.Mode().Perm()), out.Close())
	if err != nil {
		return err
	}
	return dst.Chtimes(path, time.Time{}, info.ModTime())
}

// linkTree makes in the directory to, which exists, what is at path below the directory root: files as hard links if hard is set and that can be, else as copies;
// links as links. Neither path nor anything below it is followed where it is a symbolic link, also when it becomes one meanwhile. It returns what was made, in bytes and files.
func linkTree(ctx context.Context, root, path, to string, hard bool) (info layerInfo, err error) {
	src, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return info, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer func() { unix.Close(src) }()
	dst, err := unix.Open(to, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return info, &fs.PathError{Op: "open", Path: to, Err: err}
	}
	defer func() { unix.Close(dst) }()
	l := linker{ctx: ctx, hard: hard}
	parts := strings.Split(filepath.ToSlash(path), "/")
	for _, p := range parts[:len(parts)-1] {
		s, d, err := descend(src, dst, p)
		if err != nil {
			return info, &fs.PathError{Op: "open", Path: filepath.Join(root, path), Err: err}
		}
		unix.Close(src)
		unix.Close(dst)
		src, dst = s, d
	}
	err = l.entry(src, dst, parts[len(parts)-1], filepath.Join(root, path))
	return l.made, err
}

// descend opens the directory name in both, and makes it in dst.
func descend(src, dst int, name string) (s, d int, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if s, err = unix.Openat(src, name, flags, 0); err != nil {
		return 0, 0, err
	}
	if err = unix.Mkdirat(dst, name, 0o755); err == nil || err == unix.EEXIST {
		d, err = unix.Openat(dst, name, flags, 0)
	}
	if err != nil {
		unix.Close(s)
	}
	return s, d, err
}

type linker struct {
	ctx  context.Context
	hard bool
	made layerInfo
}

// entry makes dst/name of src/name. at is for errors.
func (l *linker) entry(src, dst int, name, at string) error {
	fail := func(err error) error {
		if err == nil || err == unix.ENOENT { // it has gone meanwhile
			return nil
		}
		return &fs.PathError{Op: "carry", Path: at, Err: err}
	}
	if err := l.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fail(err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		s, d, err := descend(src, dst, name)
		if err != nil {
			return fail(err)
		}
		defer unix.Close(d)
		dir := os.NewFile(uintptr(s), at)
		defer dir.Close()
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return fail(err)
		}
		for _, n := range names {
			if err := l.entry(s, d, n, filepath.Join(at, n)); err != nil {
				return err
			}
		}
		l.made.Bytes += 4096
		return fail(unix.Fchmod(d, uint32(st.Mode)&0o777))
	case unix.S_IFLNK:
		buf := make([]byte, 4096)
		n, err := unix.Readlinkat(src, name, buf)
		if err == nil {
			err = unix.Symlinkat(string(buf[:n]), dst, name)
		}
		return fail(err)
	case unix.S_IFREG:
		l.made.Files++
		l.made.Bytes += onDisk(st.Size) // also of a link: when the user's own file goes, it is all there is
		if l.hard {
			if err := unix.Linkat(src, name, dst, name, 0); err == nil || err == unix.ENOENT {
				return nil
			}
		}
		return fail(copyAt(src, dst, name, uint32(st.Mode)&0o777))
	}
	return nil // a socket, pipe or device
}

func copyAt(src, dst int, name string, perm uint32) error {
	s, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(s), name)
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	d, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, perm)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(d), name)
	err = errors.Join(copyContents(out, in), out.Chmod(fs.FileMode(perm)), out.Close())
	if err != nil {
		return err
	}
	// Tools compare times to see what is out of date.
	at := unix.NsecToTimespec(info.ModTime().UnixNano())
	times := []unix.Timespec{at, at}
	return unix.UtimesNanoAt(dst, name, times, unix.AT_SYMLINK_NOFOLLOW)
}
