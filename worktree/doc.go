// Package worktree turns the state of a user's git repository into files that one job sees and may change.
//
// The way through it is
//
//	store := worktree.NewStore(cacheDir, worktree.Reserve(stateDir))
//	repo, err := store.Open(ctx, workingDirectory)
//	snap, err := repo.Snapshot(ctx, "")            // or a ref: "main", "v1.2^", an object id
//	ws, err := repo.NewWorkspace(ctx, worktree.WorkspaceSpec{Dir: dir, Form: worktree.Overlay, Snapshot: snap})
//	                                               // mount ws.Overlay and ws.Mounts, work in ws.Root
//	res, err := repo.Result(ctx, reader, dir, snap) // what was changed: for Diff, Apply, Branch
//	err = worktree.RemoveWorkspace(ctx, overlay.Remove, dir) // later, by any process
//	store.Close()
//
// Nothing is written to the user's .git directory, unless a branch is asked for: objects go to a bare
// repository of berth's own, one for each user repository, which borrows the user's objects.
//
// It is the only package that runs git, in git.go, and it never runs git over files that a job could have
// written. It needs git 2.32 or newer (see [MinVersion]).
package worktree
