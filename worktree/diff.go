package worktree

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// DiffOptions say how a difference is shown. Without any it is a patch that `git apply` takes, binary files included.
type DiffOptions struct {
	Stat     bool // a line for each file, and how much of it has changed
	NameOnly bool // the names alone
	Null     bool // names end in a zero byte and are not quoted
	Width    int  // columns for Stat; 0 is 80
}

// Diff writes what differs between two trees in berth's store, as it is found.
func (r *Repo) Diff(ctx context.Context, w io.Writer, from, to string, o DiffOptions) error {
	args := []string{"diff-tree", "-r", "-M", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all"}
	switch {
	case o.NameOnly:
		args = append(args, "--name-only")
	case o.Stat:
		args = append(args, fmt.Sprintf("--stat=%d", max(o.Width, 40)))
		if o.Width == 0 {
			args[len(args)-1] = "--stat"
		}
	default:
		args = append(args, "-p", "--binary", "--full-index")
		if becomes, err := r.becomesDir(ctx, from, to); err != nil {
			return fmt.Errorf("compare with the snapshot: %w", err)
		} else if becomes {
			args = append(args, "--no-renames")
		}
	}
	if o.Null {
		args = append(args, "-z")
	}
	// Nothing here knows the user's configuration or the trees' attributes, so no driver of theirs is started.
	g := git{gitDir: r.bare(), stdout: w, config: []string{"diff.renameLimit=4000"}}
	if _, err := g.run(ctx, append(args, from, to)...); err != nil {
		return fmt.Errorf("compare with the snapshot: %w", err)
	}
	return nil
}

// becomesDir tells whether something becomes a directory. If it is a link, and goes on elsewhere, then `git apply` takes what is put into the
// directory for something beyond a link, and refuses.
func (r *Repo) becomesDir(ctx context.Context, from, to string) (bool, error) {
	changes, err := r.compare(ctx, from, to)
	if err != nil {
		return false, err
	}
	gone := map[string]bool{}
	for _, c := range changes {
		gone[c.path] = c.gone
	}
	return slices.ContainsFunc(changes, func(c change) bool { return !c.gone && below(c.path, gone) }), nil
}
