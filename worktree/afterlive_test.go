package worktree

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a job with the user's own files can leave there makes the next snapshot neither run anything nor wait for ever nor read what lies outside. For a pipe
// named .gitignore or .gitattributes git itself waits, here as in the user's own git status.
func TestSnapshotAfterLive(t *testing.T) {
	for name, script := range map[string]string{
		"pipe for .gitmodules":       `rm .gitmodules; mkfifo .gitmodules`,
		"pipe for a file":            `rm a; mkfifo a; mkfifo new`,
		"link for .gitignore":        `ln -sf /dev/zero .gitignore`,
		"link for .gitattributes":    `ln -sf /dev/zero .gitattributes`,
		"directory for .gitignore":   `rm .gitignore; mkdir .gitignore`,
		"nested repository":          `git init -q n; git -C n config core.fsmonitor "$CANARY"; echo x > n/x`,
		"submodule made":             `git init -q sub; git -C sub config core.fsmonitor "$CANARY"; echo x > sub/x; git -C sub add x; git -C sub config core.worktree "$OUTSIDE"`,
		"submodule elsewhere":        `echo "gitdir: $OUTSIDE/repo/.git" > sub/.git; echo x > sub/x`,
		"submodule is a link":        `rmdir sub; ln -s "$OUTSIDE/repo" sub`,
		"submodule's .git a link":    `ln -s "$OUTSIDE/repo/.git" sub/.git; echo x > sub/x`,
		"submodule's index a pipe":   `git init -q sub; rm -f sub/.git/index; mkfifo sub/.git/index; echo x > sub/x`,
		"submodule's index endless":  `git init -q sub; ln -s /dev/zero sub/.git/index; echo x > sub/x`,
		"submodule's index damaged":  `git init -q sub; echo DIRC > sub/.git/index; echo x > sub/x`,
		"shared index endless":       `git init -q sub; echo x > sub/x; git -C sub add x; git -C sub update-index --split-index; for f in sub/.git/sharedindex.*; do ln -sf /dev/zero $f; done`,
		"shared index a pipe":        `git init -q sub; echo x > sub/x; git -C sub add x; git -C sub update-index --split-index; for f in sub/.git/sharedindex.*; do rm -f $f; mkfifo $f; done`,
		"submodule's HEAD leads out": `git init -q sub; echo x > sub/x; ln -sf "$OUTSIDE/secret" sub/.git/HEAD; ln -sf "$OUTSIDE/secret" sub/.git/info/exclude`,
		"directory is a link":        `rm -r d; ln -s "$OUTSIDE" d`,
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t)
			home := filepath.Dir(u.root)
			outside, canary, mark := filepath.Join(home, "outside"), filepath.Join(home, "canary"), filepath.Join(home, "fired")
			check(t, os.MkdirAll(outside, 0o755), os.WriteFile(canary, []byte("#!/bin/sh\ntouch '"+mark+"'\n"), 0o755),
				os.WriteFile(filepath.Join(outside, "secret"), []byte("secret\n"), 0o644))
			gitIn(t, outside, "init", "-q", "repo")
			gitIn(t, filepath.Join(outside, "repo"), "commit", "-q", "--allow-empty", "-m", "x")
			for _, f := range []string{"a", "d/secret", ".gitignore", ".gitattributes", ".gitmodules"} {
				u.write(f, "")
			}
			u.git("add", "-A")
			u.git("update-index", "--add", "--cacheinfo", "160000,1234567890123456789012345678901234567890,sub")
			u.git("commit", "-qm", "c")
			check(t, os.MkdirAll(filepath.Join(u.root, "sub"), 0o755))
			before := fingerprint(t, outside)
			cmd := exec.Command("bash", "-euc", script)
			cmd.Dir, cmd.Env = u.root, append(os.Environ(), "CANARY="+canary, "OUTSIDE="+outside)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			os.Remove(mark)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			r := u.open()
			snap, err := r.Snapshot(ctx, "")
			if ctx.Err() != nil {
				t.Fatalf("it waits: %v", err)
			}
			if err != nil && !strings.HasPrefix(name, "pipe ") { // git takes no pipe for a file that it knows
				t.Error(err)
			}
			if err == nil {
				for p, text := range restored(t, r, snap.Tree) {
					if text == `false "secret\n"` {
						t.Errorf("%s holds what lies outside", p)
					}
				}
			}
			if exists(mark) {
				t.Error("the payload ran")
			}
			sameTree(t, fingerprint(t, outside), before)
		})
	}
}
