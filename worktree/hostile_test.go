package worktree

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/worktree/overlay"
	"berth/worktree/testdata/hostile"
)

// TestHostileJob has every verb read what each attack has left.
func TestHostileJob(t *testing.T) {
	for i, a := range slices.Concat(hostile.Attacks, hostile.Harmless) {
		t.Run(a.Name, func(t *testing.T) {
			u := newUser(t)
			u.write("a", "a\n")
			u.commit()
			home := filepath.Dir(u.root)
			outside, canary, mark := filepath.Join(home, "outside"), filepath.Join(home, "canary"), filepath.Join(home, "fired")
			check(t, os.Mkdir(outside, 0o755), os.WriteFile(canary, []byte("#!/bin/sh\ntouch '"+mark+"'\n"), 0o755))
			gitIn(t, outside, "init", "-q", "repo")
			gitIn(t, filepath.Join(outside, "repo"), "commit", "-q", "--allow-empty", "-m", "x")
			u.git("config", "--global", "filter.users.clean", canary)
			t.Setenv("CANARY", canary)
			t.Setenv("OUTSIDE", outside)
			r := u.open()
			snap, err := r.Snapshot(t.Context(), "")
			check(t, err)
			j := u.job(r, snap)
			j.run("echo job > a; cp a b;" + a.Plant)
			copied := filepath.Join(t.TempDir(), "copy") // before git's own look at it changes anything
			check(t, exec.Command("cp", "-a", j.files, copied).Run())
			os.Remove(mark) // planting may have set it off
			before := fingerprint(t, outside)
			userGit := fingerprint(t, filepath.Join(u.root, ".git/hooks"))

			res := j.result(r, snap)
			everyVerb(t, u, r, snap, res, j)
			if exists(mark) {
				t.Fatal("the payload ran")
			}
			sameTree(t, fingerprint(t, outside), before)
			sameTree(t, fingerprint(t, filepath.Join(u.root, ".git/hooks")), userGit)

			plain := job{t, "", copied}
			plain.run("timeout 10 bash -c " + shellQuote(a.Plain) + " >/dev/null 2>&1 </dev/null || true")
			works := exists(mark) || !maps.Equal(fingerprint(t, outside), before)
			if works != (i < len(hostile.Attacks)) {
				t.Errorf("the attack works on plain git: %t", works)
			}
		})
	}
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// everyVerb does everything that reads a result, and looks at the user's files again afterwards.
func everyVerb(t *testing.T, u user, r *Repo, snap Snapshot, res Result, j job) {
	t.Helper()
	for _, o := range []DiffOptions{{}, {Stat: true}, {NameOnly: true}} {
		var out bytes.Buffer
		check(t, r.Diff(t.Context(), &out, snap.Tree, res.Tree, o))
		if out.Len() == 0 {
			t.Error("no difference")
		}
	}
	check(t, r.KeepResult(t.Context(), overlay.Local{}, j.dir, snap, filepath.Join(t.TempDir(), "result.json")))
	if res.NoHead == "" {
		_, err := r.Branch(t.Context(), "x", "m", snap, res)
		check(t, err)
	}
	_, err := r.Apply(t.Context(), snap, res)
	check(t, err)
	if data, err := os.ReadFile(filepath.Join(u.root, "a")); err != nil || string(data) != "job\n" {
		t.Errorf("a is %q, %v", data, err)
	}
	f, err := OpenFiles(j.dir)
	check(t, err)
	_, err = CopyOut(t.Context(), overlay.Local{}, f.Stack, ".", t.TempDir())
	check(t, err)
	_, err = u.open().Snapshot(t.Context(), "")
	check(t, err)
}

// A git directory that is not one, or points elsewhere, costs the commits and nothing else.
func TestDamagedGitDirectory(t *testing.T) {
	secret := t.TempDir()
	gitIn(t, secret, "init", "-q")
	gitIn(t, secret, "-c", "user.name=s", "-c", "user.email=s", "commit", "-q", "--allow-empty", "-m", "secret")
	id := strings.TrimSpace(gitIn(t, secret, "rev-parse", "HEAD"))
	t.Setenv("SECRET", secret)
	t.Setenv("ID", id)
	for name, plant := range map[string]string{
		"alternates":           `echo "$SECRET/.git/objects" > .git/objects/info/alternates; git update-ref HEAD $ID`,
		"linked objects":       `cp -r .git/objects/info .git/i; rm -rf .git/objects; ln -s "$SECRET/.git/objects" .git/objects; echo $ID > .git/HEAD`,
		"linked object files":  `for o in "$SECRET"/.git/objects/??; do rm -rf .git/objects/${o##*/}; ln -s $o .git/objects/; done; echo $ID > .git/HEAD`,
		"linked files in it":   `cd "$SECRET/.git/objects"; for o in ??/*; do mkdir -p "$OLDPWD/.git/objects/${o%/*}"; ln -sf "$PWD/$o" "$OLDPWD/.git/objects/$o"; done; cd - ; echo $ID > .git/HEAD`,
		"HEAD is no ref":       `echo 'ref: ../../../../etc/passwd' > .git/HEAD`,
		"HEAD is no id":        `echo 'hello' > .git/HEAD`,
		"HEAD leads in circle": `echo 'ref: refs/heads/x' > .git/HEAD; echo 'ref: refs/heads/x' > .git/refs/heads/x`,
		"HEAD is huge":         `head -c 10000000 /dev/zero > .git/HEAD`,
		"missing objects":      `echo 1234567890123456789012345678901234567890 > .git/HEAD`,
		"garbage objects":      `mkdir -p .git/objects/12; echo garbage > .git/objects/12/34567890123456789012345678901234567890; echo 1234567890123456789012345678901234567890 > .git/HEAD`,
		"wrong name":           `echo 1 > one; git add one; git commit -qm one; mkdir -p .git/objects/12; h=$(git rev-parse HEAD); cp .git/objects/${h:0:2}/${h:2} .git/objects/12/34567890123456789012345678901234567890; echo 1234567890123456789012345678901234567890 > .git/HEAD`,
		"a part is missing":    `echo 1 > one; git add one; git commit -qm one; b=$(git rev-parse HEAD:one); rm -f .git/objects/${b:0:2}/${b:2}`,
		"broken tree":          `t=$(printf '100644 .git\0%s' "$(printf 'x%.0s' {1..20})" | git hash-object -t tree -w --stdin --literally); c=$(git commit-tree -m x $t); git update-ref refs/heads/e $c; echo ref: refs/heads/e > .git/HEAD`,
		"bad pack":             `mkdir -p .git/objects/pack; head -c 5000 /dev/urandom > .git/objects/pack/pack-1234567890123456789012345678901234567890.pack; echo 1234567890123456789012345678901234567890 > .git/HEAD`,
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t)
			u.write("a", "a\n")
			u.commit()
			r := u.open()
			snap, err := r.Snapshot(t.Context(), "")
			check(t, err)
			j := u.job(r, snap)
			j.run("echo job > a;" + plant)
			res := j.result(r, snap)
			if res.NoHead == "" || res.Head != "" {
				t.Fatalf("got %+v", res)
			}
			t.Log(res.NoHead)
			if known, err := r.known(t.Context(), []string{id}); err != nil || known[0] {
				t.Errorf("the foreign commit is in the store: %v", err)
			}
			everyVerb(t, u, r, snap, res, j)
			if _, err := r.Branch(t.Context(), "y", "m", snap, res); !errorIs[*CommitsError](err) {
				t.Errorf("branch: %v", err)
			}
		})
	}
}

// What replaces or cuts history in the job's eyes has no effect on ours.
func TestReplacedHistoryIsIgnored(t *testing.T) {
	u := newUser(t)
	u.write("a", "a\n")
	u.commit()
	u.write("a", "b\n")
	u.commit()
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	j.run(`echo job > c; git add c; git commit -qm c; evil=$(echo evil | git commit-tree HEAD~1^{tree}); git replace HEAD~1 $evil; git rev-parse HEAD~1 > .git/shallow; mkdir -p .git/info; echo "$(git --no-replace-objects rev-parse HEAD)" > .git/info/grafts`)
	res := j.result(r, snap)
	if res.Head == "" {
		t.Fatalf("got %+v", res)
	}
	_, err = r.Branch(t.Context(), "x", "m", snap, res)
	check(t, err)
	if out := u.git("log", "--format=%s", "x"); out != "c\nc\nc\n" || strings.Contains(out, "evil") {
		t.Errorf("log %q", out)
	}
	if u.git("replace", "-l") != "" {
		t.Error("a replacement came along")
	}
}

// Links that a job swaps while it is read lead nowhere: what is read was in its files.
func TestSwappedLinks(t *testing.T) {
	u := newUser(t)
	u.write("a", "a\n")
	u.commit()
	r := u.open()
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := u.job(r, snap)
	secret := filepath.Join(filepath.Dir(u.root), "secret")
	check(t, os.Mkdir(secret, 0o700), os.WriteFile(filepath.Join(secret, "f"), []byte("secret"), 0o600))
	j.run("mkdir d; echo harmless > d/f; ln -s '" + secret + "' l")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(filepath.Join(j.files, "d"), filepath.Join(j.files, "t"))
			os.Rename(filepath.Join(j.files, "l"), filepath.Join(j.files, "d"))
			os.Rename(filepath.Join(j.files, "d"), filepath.Join(j.files, "l"))
			os.Rename(filepath.Join(j.files, "t"), filepath.Join(j.files, "d"))
		}
	}()
	for range 30 {
		res, err := r.Result(t.Context(), overlay.Local{}, j.dir, snap)
		if err != nil {
			continue // it may well notice
		}
		var out bytes.Buffer
		check(t, r.Diff(t.Context(), &out, snap.Tree, res.Tree, DiffOptions{}))
		if strings.Contains(out.String(), "+secret") {
			t.Fatal("a file from outside was read")
		}
	}
	close(stop)
	<-done
}
