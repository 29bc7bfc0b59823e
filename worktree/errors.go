package worktree

import (
	"fmt"
	"strings"
)

// NotRepoError says that a directory lies in no git working tree.
type NotRepoError struct{ Dir string }

func (e *NotRepoError) Error() string { return e.Dir + " is not in a git repository" }

// UnsafeOwnerError says that git refuses a repository because another user owns it.
// `git config --global --add safe.directory Root` makes git accept it.
type UnsafeOwnerError struct{ Root string }

func (e *UnsafeOwnerError) Error() string {
	return "the git repository at " + e.Root + " belongs to another user, and git refuses to read it"
}

// RefusedRootError says that a directory may not be shown to jobs: Why completes "Root is …".
type RefusedRootError struct{ Root, Why string }

func (e *RefusedRootError) Error() string { return e.Root + " cannot be given to a job: it " + e.Why }

// UnknownRefError says that a ref names no commit. Near holds the names of branches and tags that
// look like it, nearest first, at most five.
type UnknownRefError struct {
	Ref  string
	Near []string
}

func (e *UnknownRefError) Error() string { return fmt.Sprintf("no commit is called %q", e.Ref) }

// TooLargeError says that untracked files are too large to be meant for a snapshot.
// Files are relative to the top of the working tree, largest first.
type TooLargeError struct{ Files []LargeFile }

// LargeFile is an untracked file and its size in bytes.
type LargeFile struct {
	Path string
	Size int64
}

func (e *TooLargeError) Error() string {
	var names []string
	for i, f := range e.Files {
		if i == 5 {
			names = append(names, fmt.Sprintf("and %d more", len(e.Files)-i))
			break
		}
		names = append(names, fmt.Sprintf("%q (%d MB)", f.Path, f.Size/1e6))
	}
	return "untracked files are too large for a snapshot: " + strings.Join(names, ", ")
}

// GitError is a git command that failed. Line is the last line that says something on its standard error.
type GitError struct {
	Command string // the subcommand, such as "write-tree"
	Line    string
	Stderr  string // all of it, up to 64 KiB
	Err     error  // an *exec.ExitError, a context error, or exec.ErrNotFound
}

func (e *GitError) Error() string {
	if e.Line == "" {
		return fmt.Sprintf("git %s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("git %s: %s", e.Command, e.Line)
}

func (e *GitError) Unwrap() error { return e.Err }
