package worktree

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
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

// ConflictError says that what a job changed cannot be put into the user's files as they are now. Nothing was changed.
type ConflictError struct{ Conflicts []Conflict }

// Conflict is a path that both sides have changed; Why completes "it …".
type Conflict struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

func (e *ConflictError) Error() string {
	if len(e.Conflicts) == 1 {
		return fmt.Sprintf("%s is in conflict: it %s", quotePath(e.Conflicts[0].Path), e.Conflicts[0].Why)
	}
	return fmt.Sprintf("%d paths are in conflict", len(e.Conflicts))
}

// BranchExistsError says that there is a branch of a name already.
type BranchExistsError struct{ Name string }

func (e *BranchExistsError) Error() string { return fmt.Sprintf("a branch %q exists already", e.Name) }

// BranchNameError says that git allows no branch of a name.
type BranchNameError struct{ Name string }

func (e *BranchNameError) Error() string { return fmt.Sprintf("%q is no name for a branch", e.Name) }

// NoIdentityError says that nobody is set as the author of commits: user.name or user.email is missing.
type NoIdentityError struct{}

func (e *NoIdentityError) Error() string { return "git does not know who you are, so it cannot commit" }

// CommitsError says that the commits of a job cannot be taken over. Its files can.
type CommitsError struct{ Why string }

func (e *CommitsError) Error() string { return "the job's commits cannot be used: " + e.Why }

// GitError is a git command that failed. Line is the last line that says something on its standard error.
type GitError struct {
	Command string // the subcommand, such as "write-tree"
	Line    string
	Stderr  string // all of it, up to 64 KiB
	Err     error  // an *exec.ExitError, a context error, or exec.ErrNotFound
}

func (e *GitError) Error() string {
	if errors.Is(e.Err, syscall.ENOSPC) {
		return fmt.Sprintf("git %s: no space left on the disk", e.Command)
	}
	if e.Line == "" {
		return fmt.Sprintf("git %s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("git %s: %s", e.Command, e.Line)
}

func (e *GitError) Unwrap() error { return e.Err }
