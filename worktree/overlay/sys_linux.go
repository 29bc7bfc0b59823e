package overlay

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// passFlags open a directory only to go through it, for which it need not be readable.
const passFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// isWhiteout tells whether something says that there is nothing: a 0/0 device, or an empty file with an attribute.
func (w *walker) isWhiteout(f *found) (bool, error) {
	switch f.st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		return f.st.Rdev == 0, nil
	case unix.S_IFREG:
		if f.st.Size > 0 {
			return false, nil
		}
	default:
		return false, nil
	}
	dir, err := w.fd(f.in)
	if err != nil {
		return false, err
	}
	// Opened only to be named, which no permission and no kind of file stands against.
	fd, err := openat(dir, f.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return vanished(err), nil
	}
	defer unix.Close(fd)
	_, err = unix.Getxattr("/proc/self/fd/"+strconv.Itoa(fd), attrWhiteout, nil)
	return err == nil, nil
}

// attr reads an attribute of a directory, "" if it has none.
func (w *walker) attr(n *node, name string) (string, error) {
	fd, err := w.fd(n)
	if err != nil {
		return "", err
	}
	var buf [256]byte // the longest redirect that the kernel writes by default
	for to := buf[:]; ; {
		size, err := unix.Fgetxattr(fd, name, to)
		switch err {
		case nil:
			return string(to[:size]), nil
		case unix.ENODATA, unix.EOPNOTSUPP:
			return "", nil
		case unix.ERANGE:
			to = make([]byte, 64<<10) // the longest that there can be
		default:
			return "", err
		}
	}
}

// chmod changes the permissions of a directory, and of nothing that a link leads to. It need not be readable.
func chmod(dir int, name string, mode uint32) error {
	fd, err := openat(dir, name, passFlags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}
