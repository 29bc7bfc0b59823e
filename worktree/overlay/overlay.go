// Package overlay reads the layers of an overlay file system without mounting it: what a container has written, and
// what it saw. It does in user space what the kernel's overlayfs does on lookup: whiteouts, opaque directories
// and redirected (renamed) ones. It knows no metacopy files: mounts must have metacopy=off.
//
// Layers may have been written by a hostile job, and may be written while they are read. No symbolic link is ever
// followed, below or above a layer's top, and nothing found in a layer leads out of it. What vanishes meanwhile is
// left out.
//
// It has the standard library and x/sys only: berth-init uses it, with root's eyes, where the caller has not got them
// (files of other users, trusted.* attributes). Other systems than Linux know a single layer.
package overlay

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Stack is the layers of one overlay file system: absolute paths of directories, uppermost first. A single directory is a
// stack as well.
type Stack []string

// Kind is what an entry is.
type Kind string

// The kinds.
const (
	File    Kind = "file"
	Dir     Kind = "dir"
	Link    Kind = "link"
	Gone    Kind = "gone"    // it was there below, and has been removed with all below it
	Special Kind = "special" // nobody's result: a socket, pipe, device, or what lies deeper than [MaxPath]
)

// MaxPath is the length in bytes of the longest path that a walk goes into. A directory beyond it is Special.
const MaxPath = 32 << 10

// Entry is one thing in a stack.
type Entry struct {
	Path   string      // from the top, with slashes, any bytes but zero; "." is the top
	Kind   Kind        // of what is there now
	Perm   fs.FileMode // the nine permission bits, never setuid
	Size   int64       // bytes of a File
	Target string      // of a Link
	Mtime  time.Time
	Ctime  time.Time // cannot be set by a job, so it tells whether something was touched
	Ino    uint64    // of the layer's own file
}

// Changes tells what the uppermost n layers change in what the others show, parents before children; the top itself is left
// out. A path that is the same kind of thing below and above may be reported though nothing is different in it. With
// n = len(s) everything is reported.
//
// Each path is told once, but for one that was a directory below and is something else now, or the other way round: it is
// reported as Gone first. So is a directory that was put in another's place, or renamed; then follows everything it
// holds now, whichever layer that lies in. Whoever carries the entries out in order needs to know nothing else.
//
// What is called .git is reported and not gone into. An error of fn ends the walk and is returned.
func (s Stack) Changes(ctx context.Context, n int, fn func(Entry) error) error {
	w := newWalker(ctx)
	defer w.close()
	tops, err := w.open(s)
	if err != nil {
		return err
	}
	n = min(max(n, 0), len(s))
	return w.changes(tops, tops[n:], n, "", fn)
}

// List tells what is at path and below it, parents before children, .git included. The error wraps [fs.ErrNotExist] when there is
// nothing.
func (s Stack) List(ctx context.Context, path string, fn func(Entry) error) error {
	w := newWalker(ctx)
	defer w.close()
	if _, err := w.open(s); err != nil {
		return err
	}
	return w.list(path, fn)
}

// Open opens a regular file for reading; the caller closes it. Anything else is an error: one that wraps [fs.ErrNotExist] if
// nothing is there, [ErrNotRegular] if something is.
func (s Stack) Open(path string) (*os.File, Entry, error) {
	w := newWalker(context.Background())
	defer w.close()
	if _, err := w.open(s); err != nil {
		return nil, Entry{}, err
	}
	return w.file(path)
}

// ErrNotRegular is for what is no regular file.
var ErrNotRegular = errors.New("not a regular file")

// Local reads with the eyes of this process. Only root's see all that overlayfs notes in a layer.
type Local struct{}

// Changes is [Stack.Changes].
func (Local) Changes(ctx context.Context, s Stack, n int, fn func(Entry) error) error {
	return s.Changes(ctx, n, fn)
}

// List is [Stack.List].
func (Local) List(ctx context.Context, s Stack, path string, fn func(Entry) error) error {
	return s.List(ctx, path, fn)
}

// Read gives the contents of regular files in the order asked for, one at a time; the reader holds during the call only. A
// path at which there is no regular file (any more) is left out. The reader has as many bytes as the entry says: a file that
// has grown meanwhile is cut, and one that has shrunk ends in [io.ErrUnexpectedEOF]. It is fastest with neighbours
// in a row.
func (Local) Read(ctx context.Context, s Stack, paths []string, fn func(Entry, io.Reader) error) error {
	w := newWalker(ctx)
	defer w.close()
	if _, err := w.open(s); err != nil {
		return err
	}
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, e, err := w.file(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotRegular) {
			continue
		}
		if err != nil {
			return err
		}
		err = fn(e, &exact{f, e.Size})
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// exact reads left bytes, neither more nor less.
type exact struct {
	from io.Reader
	left int64
}

func (r *exact) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.from.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// newEntry describes what is at path; a link's target is not in it.
func newEntry(path string, st *unix.Stat_t) Entry {
	e := Entry{
		Path:  path,
		Kind:  Special,
		Perm:  fs.FileMode(st.Mode) & fs.ModePerm,
		Mtime: time.Unix(st.Mtim.Unix()),
		Ctime: time.Unix(st.Ctim.Unix()),
		Ino:   st.Ino,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Kind, e.Size = File, st.Size
	case unix.S_IFDIR:
		e.Kind = Dir
	case unix.S_IFLNK:
		e.Kind = Link
	}
	return e
}
