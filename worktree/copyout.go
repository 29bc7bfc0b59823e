package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"berth/worktree/overlay"
)

// NotFileError says that what is to be written to one stream is no file.
type NotFileError struct{ Path string }

func (e *NotFileError) Error() string { return quotePath(e.Path) + " is not a regular file" }

// CopyOut copies what is at path in a stack to dest: into it where it is a directory, else under that name. Directories are copied with all in
// them, symbolic links as links; times and permissions stay, owners and setuid bits do not. "." and a path that ends in "/." mean what is in a
// directory, not the directory.
//
// Files are replaced, directories never by files nor files by directories. Below dest no symbolic link is followed, so nothing that a job
// wrote decides where a file goes. Git directories are never copied: git runs what their configuration names, and a job has written it. They and what
// cannot be copied (sockets, pipes, devices) are returned.
//
// The error wraps [fs.ErrNotExist] when there is nothing at path; it is a [*GitFilesError] for a path in a git directory.
func CopyOut(ctx context.Context, read Reader, s overlay.Stack, from, dest string) ([]Skipped, error) {
	contents := from == "." || strings.HasSuffix(from, "/.") || strings.HasSuffix(from, "/")
	from = path.Clean(from)
	if !filepath.IsLocal(from) {
		return nil, fmt.Errorf("copy %s: %w", quotePath(from), fs.ErrNotExist)
	}
	if inDotGit(from) != "" {
		return nil, &GitFilesError{Path: from}
	}
	c := &copying{from: from}
	last := ""
	err := read.List(ctx, s, from, func(e overlay.Entry) error {
		if badPath(e.Path) {
			return fmt.Errorf("%q: unexpected name", e.Path)
		}
		if git := inDotGit(e.Path); git != "" {
			if git != last {
				c.skipped = append(c.skipped, Skipped{Path: git, Why: "belongs to git, which runs what is set there"})
			}
			last = git
			return nil
		}
		c.list = append(c.list, e)
		return nil
	})
	if err == nil && len(c.list) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", quotePath(from), err)
	}
	if err := c.open(dest, contents && c.list[0].Kind == overlay.Dir); err != nil {
		return nil, fmt.Errorf("copy to %s: %w", dest, err)
	}
	defer c.place.close()
	if err := c.run(ctx, read, s); err != nil {
		return c.skipped, fmt.Errorf("copy to %s: %w", dest, err)
	}
	return c.skipped, nil
}

// CopyFile writes the contents of one file to w. Errors: [*NotFileError], and one that wraps [fs.ErrNotExist].
func CopyFile(ctx context.Context, read Reader, s overlay.Stack, from string, w io.Writer) error {
	from = path.Clean(from)
	if !filepath.IsLocal(from) {
		return fmt.Errorf("copy %s: %w", quotePath(from), fs.ErrNotExist)
	}
	found, one := false, errors.New("")
	err := read.List(ctx, s, from, func(e overlay.Entry) error {
		found = true
		if e.Kind != overlay.File {
			return &NotFileError{Path: from}
		}
		return one
	})
	if err == nil && !found {
		err = fs.ErrNotExist
	}
	if err != nil && !errors.Is(err, one) {
		return fmt.Errorf("copy %s: %w", quotePath(from), err)
	}
	err = read.Read(ctx, s, []string{from}, func(_ overlay.Entry, in io.Reader) error {
		_, err := io.Copy(w, in)
		return err
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", quotePath(from), err)
	}
	return nil
}

// GitFilesError says that a path lies in a git directory.
type GitFilesError struct{ Path string }

func (e *GitFilesError) Error() string {
	return quotePath(e.Path) + " belongs to git, and is not copied"
}

// inDotGit is the part of a path up to the first name that git may take for its own directory, "" if there is none.
func inDotGit(p string) string {
	for i := 0; i <= len(p); i++ {
		if (i == len(p) || p[i] == '/') && isDotGit(path.Base(p[:i])) {
			return p[:i]
		}
	}
	return ""
}

// badPath says whether a path is none from the top.
func badPath(p string) bool {
	return p != "." && (!filepath.IsLocal(p) || path.Clean(p) != p || strings.ContainsRune(p, 0))
}

// copying is one copy. Its first entry is what was asked for.
type copying struct {
	from    string
	list    []overlay.Entry
	place   *place
	name    string // in place, of what was asked for; "" when place itself is it
	made    []overlay.Entry
	skipped []Skipped
}

// open finds where the copy goes. dest is the user's, and may be a link.
func (c *copying) open(dest string, contents bool) (err error) {
	info, err := os.Stat(dest)
	isDir := err == nil && info.IsDir()
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case isDir && contents:
	case isDir:
		c.name = path.Base(c.from)
	case strings.HasSuffix(dest, "/") && (err == nil || c.list[0].Kind != overlay.Dir):
		return &fs.PathError{Op: "open", Path: dest, Err: unix.ENOTDIR}
	default:
		dest = filepath.Clean(dest)
		c.name, dest = filepath.Base(dest), filepath.Dir(dest)
	}
	c.place, err = openPlace(dest)
	return err
}

// target is where an entry goes.
func (c *copying) target(e overlay.Entry) string {
	rest := e.Path
	if c.from != "." {
		rest = strings.TrimPrefix(strings.TrimPrefix(e.Path, c.from), "/")
	} else if rest == "." {
		rest = ""
	}
	return path.Join(c.name, rest)
}

func (c *copying) run(ctx context.Context, read Reader, s overlay.Stack) error {
	var files []string
	for _, e := range c.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		switch e.Kind {
		case overlay.Dir:
			err = c.mkdir(e)
		case overlay.Link:
			err = c.place.in(c.target(e), nil, func(dir int, name string) error { return c.put(dir, name, e, nil) })
		case overlay.File:
			files = append(files, e.Path)
		case overlay.Special:
			c.skipped = append(c.skipped, Skipped{Path: e.Path, Why: "is a socket, pipe or device"})
		}
		if err != nil {
			return err
		}
	}
	copied := map[string]bool{}
	if len(files) > 0 {
		err := read.Read(ctx, s, files, func(e overlay.Entry, in io.Reader) error {
			copied[e.Path] = true
			return c.place.in(c.target(e), nil, func(dir int, name string) error { return c.put(dir, name, e, in) })
		})
		if err != nil {
			return err
		}
	}
	for _, f := range files {
		if !copied[f] {
			c.skipped = append(c.skipped, Skipped{Path: f, Why: "vanished meanwhile"})
		}
	}
	slices.SortFunc(c.skipped, func(a, b Skipped) int { return cmp.Compare(a.Path, b.Path) })
	// Last, and inner ones first: a directory may be one that its owner may not write.
	for _, e := range slices.Backward(c.made) {
		err := c.place.in(c.target(e), nil, func(dir int, name string) error {
			return errors.Join(chmodAt(dir, name, e.Perm), setTime(dir, name, e.Mtime))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// chmodAt changes the permissions of a directory that may have been replaced by a link.
func chmodAt(dir int, name string, perm fs.FileMode) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, uint32(perm.Perm()))
}

// mkdir makes a directory, or uses the one that is there.
func (c *copying) mkdir(e overlay.Entry) error {
	to := c.target(e)
	if to == "" {
		return nil
	}
	return c.place.in(to, nil, func(dir int, name string) error {
		err := unix.Mkdirat(dir, name, 0o700)
		if err == nil {
			c.made = append(c.made, e)
			return nil
		}
		var st unix.Stat_t
		if serr := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); serr == nil && kindOf(st) == unix.S_IFDIR {
			return nil
		}
		return err
	})
}

// put makes a file with the contents of in, or a link, and moves it to its place, so that nobody sees a part of it.
func (c *copying) put(dir int, name string, e overlay.Entry, in io.Reader) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && kindOf(st) == unix.S_IFDIR {
		return unix.EISDIR
	}
	temp, err := c.temp(dir, e, in)
	if err == nil {
		err = setTime(dir, temp, e.Mtime)
	}
	if err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if err != nil && temp != "" {
		_ = unix.Unlinkat(dir, temp, 0)
	}
	return err
}

func (c *copying) temp(dir int, e overlay.Entry, in io.Reader) (string, error) {
	for n := 0; ; n++ {
		name := tempName(n)
		if in == nil {
			err := unix.Symlinkat(e.Target, dir, name)
			if err == unix.EEXIST {
				continue
			}
			if err != nil {
				return "", err
			}
			return name, nil
		}
		f, err := createAt(dir, name, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = io.Copy(f, in)
		return name, errors.Join(err, f.Chmod(e.Perm.Perm()), f.Close())
	}
}
