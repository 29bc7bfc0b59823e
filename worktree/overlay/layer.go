package overlay

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// openLimit is how many directories below the tops are held open at once, shared among the layers. The others are opened
// again when they are needed, so a tree may be deeper than a process may have descriptors.
const openLimit = 256

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// node is a directory of one layer. It is opened by its name in its parent, and never by a path.
type node struct {
	layer    int
	parent   *node // nil at a layer's top
	name     string
	dev, ino uint64
	fd       int // -1 when it is not open
	slot     int // in its layer's ring, when it is open
}

// walker goes through the layers of one stack. It is for one goroutine.
type walker struct {
	ctx  context.Context
	tops view
	held []ring // of each layer; in one for all, chains of two layers would drive out each other
	buf  []byte

	lastDir  string // the directory that find was in last
	lastView view
}

// ring holds the directories that were opened last.
type ring struct {
	nodes []*node
	next  int // slot to be used next
}

func newWalker(ctx context.Context) *walker { return &walker{ctx: ctx} }

// open opens the tops of all layers.
func (w *walker) open(s Stack) (view, error) {
	w.held = make([]ring, len(s))
	for i, p := range s {
		fd, err := openTop(p)
		if err != nil {
			return nil, &fs.PathError{Op: "open layer", Path: p, Err: err}
		}
		w.tops = append(w.tops, &node{layer: i, fd: fd})
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, &fs.PathError{Op: "open layer", Path: p, Err: err}
		}
		w.tops[i].dev, w.tops[i].ino = uint64(st.Dev), st.Ino
	}
	return w.tops, nil
}

// openTop opens a directory by its absolute path, of which no part is a symbolic link.
func openTop(p string) (int, error) {
	if !path.IsAbs(p) {
		return -1, unix.EINVAL
	}
	fd, err := openat(unix.AT_FDCWD, "/", passFlags)
	if err != nil {
		return -1, err
	}
	rest := strings.Trim(path.Clean(p), "/")
	for {
		name, more, deeper := strings.Cut(rest, "/")
		flags := passFlags
		if !deeper {
			flags = dirFlags
		}
		if name == "" {
			name = "."
		}
		below, err := openat(fd, name, flags)
		unix.Close(fd)
		if err != nil || !deeper {
			return below, err
		}
		fd, rest = below, more
	}
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (w *walker) close() {
	for _, r := range w.held {
		for _, n := range r.nodes {
			if n != nil {
				w.release(n)
			}
		}
	}
	for _, n := range w.tops {
		unix.Close(n.fd)
	}
}

// fd opens a directory unless it is open. The descriptor is valid until the next call.
func (w *walker) fd(n *node) (int, error) {
	var closed []*node
	for ; n.fd < 0; n = n.parent {
		closed = append(closed, n)
	}
	fd := n.fd
	for i := len(closed) - 1; i >= 0; i-- {
		below, err := openat(fd, closed[i].name, dirFlags)
		if err != nil {
			return -1, err
		}
		w.hold(closed[i], below)
		fd = below
	}
	return fd, nil
}

// hold keeps a descriptor for later, in the place of the one that its layer has held longest.
func (w *walker) hold(n *node, fd int) {
	r := &w.held[n.layer]
	if r.nodes == nil {
		r.nodes = make([]*node, max(8, openLimit/len(w.held)))
	}
	if old := r.nodes[r.next]; old != nil {
		w.release(old)
	}
	n.fd, n.slot = fd, r.next
	r.nodes[r.next] = n
	r.next = (r.next + 1) % len(r.nodes)
}

func (w *walker) release(n *node) {
	if n.fd >= 0 && n.parent != nil {
		unix.Close(n.fd)
		n.fd = -1
		w.held[n.layer].nodes[n.slot] = nil
	}
}

// names reads what a directory holds, in no order.
func (w *walker) names(n *node, to []string) ([]string, error) {
	fd, err := w.fd(n)
	if err != nil {
		return to, err
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return to, err
	}
	if w.buf == nil {
		w.buf = make([]byte, 32<<10)
	}
	return readNames(fd, w.buf, to)
}

func readNames(fd int, buf []byte, to []string) ([]string, error) {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return to, err
		}
		_, _, to = unix.ParseDirent(buf[:n], -1, to)
	}
}

func (w *walker) stat(in *node, name string, st *unix.Stat_t) error {
	fd, err := w.fd(in)
	if err != nil {
		return err
	}
	return unix.Fstatat(fd, name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func (w *walker) readlink(in *node, name string) (string, error) {
	fd, err := w.fd(in)
	if err != nil {
		return "", err
	}
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// vanished tells whether an error says that what was asked for is not there, or not what it was any more.
func vanished(err error) bool {
	for _, gone := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ESTALE, unix.ENAMETOOLONG} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}
