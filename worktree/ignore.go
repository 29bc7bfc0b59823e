package worktree

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ignorer asks git which paths are ignored, in a working tree of our own that has nothing but .gitignore files.
type ignorer struct {
	git  git
	work string
}

func (r *Repo) ignorer(tmp string) (*ignorer, error) {
	work, err := os.MkdirTemp(tmp, "ignore-")
	if err != nil {
		return nil, err
	}
	repo, err := os.MkdirTemp(tmp, "ignore-git-")
	if err != nil {
		return nil, err
	}
	g, err := r.scratch(source{root: work, exclude: readSmall(filepath.Join(r.commonDir, "info/exclude"))}, repo)
	return &ignorer{git: g, work: work}, err
}

// add puts a .gitignore file into the working tree; path is safe, by badName.
func (ig *ignorer) add(path string, in io.Reader) error {
	path = filepath.Join(ig.work, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, in)
	return err
}

// ask tells which of the paths are ignored. A directory's name ends in a slash; one that is ignored makes all below it be so.
func (ig *ignorer) ask(ctx context.Context, paths []string) (map[string]bool, error) {
	ignored := map[string]bool{}
	if len(paths) == 0 {
		return ignored, nil
	}
	// With ./ before it no path begins with a colon, which is magic.
	out, err := ig.git.feed(ctx, func(w io.Writer) error {
		for _, p := range paths {
			if _, err := io.WriteString(w, "./"+p+"\x00"); err != nil {
				return err
			}
		}
		return nil
	}, "check-ignore", "-z", "--stdin", "--no-index")
	if err != nil && exitCode(err) != 1 { // 1 is none
		return nil, err
	}
	for _, p := range splitZ(out) {
		ignored[strings.TrimPrefix(p, "./")] = true
	}
	return ignored, nil
}
