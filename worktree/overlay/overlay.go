// Package overlay reads the layers of an overlay file system without mounting it: what a container has written, and
// what it saw. It does in user space what the kernel's overlayfs does on lookup: whiteouts, opaque directories
// and redirected (renamed) ones.
//
// Layers may have been written by a hostile job, and may be written while they are read. No symbolic link is ever
// followed, below or above a layer's top, and nothing found in a layer leads out of it.
//
// It has the standard library and x/sys only: berth-init uses it, with root's eyes, where the caller has not got them
// (files of other users, trusted.* attributes).
package overlay

import (
	"context"
	"io"
	"io/fs"
	"os"
	"time"
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
	Special Kind = "special" // a socket, pipe or device, which is nobody's result
)

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

// Changes tells what the uppermost n layers change in what the others show, each path once, parents before children. A path
// that is the same kind of thing below and above may be reported though nothing is different in it.
// A directory that was put in another's place, or renamed, is reported as Gone and then with everything it holds now, whichever layer
// that lies in. With n = len(s) everything is reported.
//
// What is called .git is reported and not gone into. An error of fn ends the walk and is returned.
func (s Stack) Changes(ctx context.Context, n int, fn func(Entry) error) error { panic("todo") }

// List tells what is at path and below it, parents before children, .git included. The error wraps [fs.ErrNotExist] when there is
// nothing.
func (s Stack) List(ctx context.Context, path string, fn func(Entry) error) error { panic("todo") }

// Open opens a regular file for reading; the caller closes it. Anything else is an error.
func (s Stack) Open(path string) (*os.File, Entry, error) { panic("todo") }

// Remove removes directories with all they hold, whatever permissions a job has set, following no symbolic link. One that is
// not there is fine. It goes on after an error and joins them.
func Remove(ctx context.Context, dirs ...string) error { panic("todo") }

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
// path at which there is no regular file (any more) is left out.
func (Local) Read(ctx context.Context, s Stack, paths []string, fn func(Entry, io.Reader) error) error {
	panic("todo")
}
