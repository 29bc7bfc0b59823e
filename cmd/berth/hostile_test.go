package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/worktree/testdata/hostile"
)

// victim is a user with a repository, and with things outside it that nobody may touch.
type victim struct {
	t                                   *testing.T
	repo, canary, outside, mark, config string
	env                                 []string
}

// TestHostileJobs has real jobs do what package hostile knows, in their own files and in the user's checkout, and then every command that has to do
// with a job's files. The tricks are those on which package worktree proves that its reading is safe; here the files are what the engine leaves.
func TestHostileJobs(t *testing.T) {
	if !haveEngine(t) {
		t.Skip("no engine")
	}
	attacks := slices.Concat(hostile.Attacks, hostile.Harmless)
	home := tempDir(t, "berth-victim-")
	env := append(os.Environ(), "HOME="+home, "XDG_STATE_HOME=", "XDG_CACHE_HOME=", "XDG_CONFIG_HOME=", "BERTH_SESSION=hostile", "BERTH_LEASE=", "NO_COLOR=1",
		"GIT_CONFIG_GLOBAL="+filepath.Join(home, ".gitconfig"), "GIT_CONFIG_NOSYSTEM=1")
	var victims []*victim
	last := &victim{t: t, repo: home, env: env}
	defer last.berth(-1, "session", "end")
	for i, a := range attacks {
		if testing.Short() && i%20 != 0 {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			v := newVictim(t, home, env, i)
			victims = append(victims, v)
			v.attack(a, i < len(hostile.Attacks))
		})
	}
	// What the end of the session and gc read is the files of all.
	before := map[*victim]string{}
	for _, v := range victims {
		v.t = t
		before[v] = v.untouchable()
	}
	last.berth(0, "session", "end")
	last.berth(0, "gc")
	for i, v := range victims {
		v.berth(0, "diff", "--session", "hostile", v.job())
		v.berth(0, "cp", "--session", "hostile", v.job()+":a", "-")
		v.berth(-1, "apply", "--session", "hostile", v.job()) // what the last one has changed is in conflict
		if now := v.untouchable(); now != before[v] {
			t.Errorf("victim %d, after the session: %s", i, v.differs(before[v], now))
		}
	}
}

func tempDir(t *testing.T, prefix string) string {
	dir, err := os.MkdirTemp("", prefix)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newVictim(t *testing.T, home string, env []string, i int) *victim {
	dir := filepath.Join(home, fmt.Sprint("victim", i))
	v := &victim{
		t: t, repo: filepath.Join(dir, "repo"), canary: filepath.Join(dir, "canary"), mark: filepath.Join(dir, "fired"), outside: filepath.Join(dir, "outside"),
		config: filepath.Join(home, ".gitconfig"),
	}
	v.env = append(slices.Clip(env), "CANARY="+v.canary, "OUTSIDE="+v.outside)
	v.must(os.WriteFile(v.config, fmt.Appendf(nil, "[user]\n\tname = U\n\temail = u@example.org\n[init]\n\tdefaultBranch = main\n[advice]\n\taddEmbeddedRepo = false\n"+
		"[filter \"users\"]\n\tclean = %s\n[protocol \"file\"]\n\tallow = always\n", v.canary), 0o644))
	v.must(os.MkdirAll(v.repo, 0o755))
	v.sh(v.repo, `git init -q; echo a > a; mkdir d; echo f > d/f; git add -A; git commit -qm first; `+v.surroundings())
	v.must(os.Remove(v.mark))
	return v
}

// surroundings makes the canary and what is outside, on this machine and once more in a job, which sees neither.
func (v *victim) surroundings() string {
	return `mkdir -p "$OUTSIDE/d"; printf '#!/bin/sh\ntouch '"'` + v.mark + `'"'\n' > "$CANARY"; chmod +x "$CANARY"; "$CANARY"; echo f > "$OUTSIDE/d/f"
		git init -q "$OUTSIDE/repo"; GIT_AUTHOR_DATE="1600000000 +0000" GIT_COMMITTER_DATE="1600000000 +0000" git -C "$OUTSIDE/repo" -c user.name=x -c user.email=x@example.org commit -q --allow-empty -m x;`
}

func (v *victim) job() string { return filepath.Base(filepath.Dir(v.repo)) }

// attack lets a job do its worst, once in its own files, once in the user's.
func (v *victim) attack(a hostile.Attack, works bool) {
	t := v.t
	before := v.untouchable()
	check := func(after string) {
		t.Helper()
		if now := v.untouchable(); now != before {
			t.Fatalf("after %s: %s", after, v.differs(before, now))
		}
	}
	script := v.surroundings() + `git config user.name j; git config user.email j@example.org; echo job > a; cp a b; ` +
		`rm -r d; ln -s "$OUTSIDE/d" d; ln -s "$OUTSIDE" out; ln -s ../../../../../../../etc/passwd up; mkdir e; echo e > e/f; ` + a.Plant
	job := v.job()
	v.berth(0, "run", "--wait", "-n", job, "-e", "CANARY", "-e", "OUTSIDE", "--", "bash", "-euc", script)
	check("run")
	for _, args := range [][]string{{"diff", job}, {"diff", "--stat", job}, {"diff", "--json", "--name-only", job}, {"ps"}, {"inspect", job}, {"gc"},
		{"cp", job + ":a", "-"}, {"cp", job + ":.", v.mark + ".copy"}} {
		if out := v.berth(0, args...); args[0] == "diff" && !strings.Contains(out, "out") {
			t.Errorf("%v shows %q", args, out)
		}
		check(args[0])
	}
	v.berth(-1, "branch", job, "from-job") // it may refuse the job's commits
	check("branch")
	v.berth(0, "apply", job)
	check("apply")
	if data, err := os.ReadFile(filepath.Join(v.repo, "a")); err != nil || string(data) != "job\n" {
		t.Errorf("a holds %q, %v", data, err)
	}
	// d is a link in the checkout now, and lies in a directory in the next job's.
	v.berth(0, "run", "--wait", "-n", job+"-d", "--", "sh", "-c", `rm d; mkdir d; echo evil > d/f; rm out; mkdir -p out/d; echo evil > out/d/f`)
	v.berth(125, "cp", job+"-d:d", v.mark+".copy") // where d is a link
	check("cp to a link")
	v.berth(0, "apply", job+"-d")
	check("apply where links were")
	v.sh(v.repo, "rm -rf d out; git checkout -q -- d")
	before = v.untouchable()

	// Now in the user's own files. Some of it cannot be done there.
	v.berth(-1, "run", "--live", "--wait", "-n", job+"-live", "-e", "CANARY", "-e", "OUTSIDE", "--", "bash", "-c", "set -e; "+script)
	check("run --live")
	v.berth(0, "run", "--wait", "-n", job+"-next", "--", "sh", "-c", "echo next > next; mkdir -p e; echo next > e/f")
	check("the next run")
	for _, args := range [][]string{{"diff", job + "-next"}, {"cp", job + "-next:next", "-"}, {"cp", job + "-live:a", "-"}, {"apply", job + "-next"}, {"branch", job + "-next", "next"}} {
		v.berth(0, args...)
		check(args[0] + " after --live")
	}

	// The copy has all that the job had, but for what it took outside, which was inside its container, and git's own files: those only another job can see.
	if _, err := os.Lstat(filepath.Join(v.mark+".copy", ".git")); err == nil {
		t.Error("cp has copied .git")
	}
	archive := v.berth(0, "run", "--wait", "-n", job+"-git", "--from", job, "--", "tar", "cf", "-", ".")
	check("run --from")
	v.must(os.WriteFile(v.mark+".tar", []byte(archive), 0o600))
	v.must(os.RemoveAll(v.mark + ".copy"))
	v.must(os.Mkdir(v.mark+".copy", 0o755))
	v.sh(v.mark+".copy", "tar xf '"+v.mark+".tar'")
	v.sh(v.mark+".copy", `mkdir -p "$OUTSIDE/logs" "$OUTSIDE/refs/heads" "$OUTSIDE/objects/info"; : > "$OUTSIDE/objects/info/alternates"
		find . "$OUTSIDE/objects" -name alternates -exec sh -c 'for s in "$1"/.git/objects "$HOME"/.cache/berth/*/git/objects; do echo "$s"; done > "$2"' - "`+v.repo+`" {} \;`)
	outside := v.untouchable()
	cmd := exec.Command("timeout", "10", "bash", "-c", a.Plain)
	cmd.Dir, cmd.Env = v.mark+".copy", v.env
	out, _ := cmd.CombinedOutput()
	if did := v.untouchable() != outside; did != works {
		t.Errorf("the attack works on plain git: %t\n%s", did, out)
	}
	os.Remove(v.mark)
}

// untouchable is all that must stay as it is: what is outside, the mark of the canary, and what of the user's .git makes git do things.
func (v *victim) untouchable() string {
	v.t.Helper()
	var b strings.Builder
	for _, top := range []string{v.outside, v.mark, v.canary, v.config, filepath.Join(v.repo, ".git/hooks"), filepath.Join(v.repo, ".git/config"),
		filepath.Join(v.repo, ".git/HEAD"), filepath.Join(v.repo, ".git/index"), filepath.Join(v.repo, ".git/info")} {
		err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprint(&b, p, " ", info.Mode(), " ", info.ModTime().UnixNano())
			if info.Mode().IsRegular() {
				data, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				fmt.Fprintf(&b, " %x", sha256.Sum256(data))
			}
			b.WriteByte('\n')
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			v.t.Fatal(err)
		}
	}
	return b.String()
}

// differs lists the lines that one of two has.
func (v *victim) differs(a, b string) string {
	var out []string
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		for line := range strings.Lines(pair[1]) {
			if !strings.Contains(pair[0], line) {
				out = append(out, line)
			}
		}
	}
	return strings.Join(out, "")
}

// berth runs the program and returns what it printed. code -1 allows any but a crash.
func (v *victim) berth(code int, args ...string) string {
	v.t.Helper()
	cmd := exec.CommandContext(v.t.Context(), "berth", args...)
	cmd.Dir, cmd.Env = v.repo, v.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code && code >= 0 || got == 2 || got < 0 {
		v.t.Errorf("berth %q: exit code %d\n%s%s", args, got, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func (v *victim) sh(dir, script string) {
	v.t.Helper()
	cmd := exec.CommandContext(v.t.Context(), "bash", "-euc", script)
	cmd.Dir, cmd.Env = dir, v.env
	if out, err := cmd.CombinedOutput(); err != nil {
		v.t.Fatalf("%v\n%s", err, out)
	}
}

func (v *victim) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}
