package worktree

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// filteredPrefix begins the name of a saved index that has files whose bytes on disk are not those of their blobs.
const filteredPrefix = "filtered-"

// saveIndex keeps the user's index in the store, for the git directories of jobs, and returns its name. Of what the index knows of files
// on disk only whether git takes them for unchanged is kept, for those in clean.
func (r *Repo) saveIndex(user *index, clean map[string]bool) (string, error) {
	saved := &index{entries: make([]entry, len(user.entries))}
	sum := sha256.New()
	for i, e := range user.entries {
		e.stat = stat{}
		if clean[e.path] {
			e.stat.size = 1
		}
		saved.entries[i] = e
		fmt.Fprintf(sum, "%o %x %d %t %t %t %d %s\x00", e.mode, e.oid, e.stage, e.assume, e.skip, e.intend, e.stat.size, e.path)
	}
	name := hex.EncodeToString(sum.Sum(nil)[:16])
	if len(clean) > 0 {
		name = filteredPrefix + name
	}
	path := filepath.Join(r.cache, "index", name)
	now := time.Now()
	if os.Chtimes(path, now, now) == nil { // it is there, and in use
		return name, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return name, saved.write(path, r.hashSize())
}

// jobIndex is the index a job's git starts from: the user's, with what is known of the files just checked out.
func (r *Repo) jobIndex(name string, checkout *index) (*index, error) {
	saved, data, err := readIndex(filepath.Join(r.cache, "index", name), r.hashSize())
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, fmt.Errorf("the saved index %s is gone", name)
	}
	for i := range saved.entries {
		e := &saved.entries[i]
		clean := e.stat.size != 0
		e.stat = stat{}
		if f := checkout.find(e.path); f != nil && e.stage == 0 && (clean || f.oid == e.oid && f.mode == e.mode) {
			e.stat = f.stat
		}
	}
	saved.mtime = checkout.mtime // so that files written in the same instant are still looked at
	return saved, nil
}

// jobGitDir writes the private git directory of a job, but for its index.
func (r *Repo) jobGitDir(ctx context.Context, dir, branch, commit string, live bool) error {
	head := commit
	if branch != "" {
		head = "ref: refs/heads/" + branch
	} else if commit == "" {
		head = "ref: refs/heads/main"
	}
	exclude := readSmall(filepath.Join(r.commonDir, "info/exclude"))
	if data, err := os.ReadFile(r.excludesFile()); err == nil {
		exclude = string(data) + "\n" + exclude
	}
	d := gitDir{head: head, config: r.config.forJob(r.format), exclude: exclude, attributes: readSmall(filepath.Join(r.commonDir, "info/attributes"))}
	if live {
		// The .git files of submodules point to what the job does not see.
		d.config = append(d.config, section("diff", ""), configLine("ignoreSubmodules", "all"))
	}
	if err := d.make(dir); err != nil {
		return err
	}
	if err := r.copyRefs(ctx, dir, branch, commit); err != nil {
		return err
	}
	lines, err := r.jobAlternates()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "objects/info/alternates"), []byte(lines), 0o644); err != nil {
		return err
	}
	copies := map[string]string{"shallow": r.commonDir}
	if live || commit == headCommit(r.gitDir, r.hashSize()) {
		for _, f := range []string{"MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD", "REVERT_HEAD"} {
			copies[f] = r.gitDir
		}
	}
	for f, from := range copies {
		if text := readSmall(filepath.Join(from, f)); text != "" {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyRefs writes all refs of the user's, with branch at commit, where the user may have moved it since.
func (r *Repo) copyRefs(ctx context.Context, dir, branch, commit string) error {
	out, err := r.userGit().run(ctx, "for-each-ref", "--format=%(refname) %(objectname) %(*objectname) %(symref)")
	if err != nil {
		return err
	}
	var packed strings.Builder
	packed.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 4 {
			return errors.New("git for-each-ref: unexpected answer")
		}
		if f[3] != "" {
			path := filepath.Join(dir, f[0])
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte("ref: "+f[3]+"\n"), 0o644); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(&packed, "%s %s\n", f[1], f[0])
		if f[2] != "" {
			fmt.Fprintf(&packed, "^%s\n", f[2])
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "packed-refs"), []byte(packed.String()), 0o644); err != nil {
		return err
	}
	if branch == "" || commit == "" {
		return nil
	}
	path := filepath.Join(dir, "refs/heads", branch)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(commit+"\n"), 0o644)
}

// objectMounts show a job the object stores that its git borrows from, in the order of [jobAlternates]. empty is an empty file.
func (r *Repo) objectMounts(empty string) ([]Mount, error) {
	stores, err := alternates(filepath.Join(r.bare(), "objects"))
	if err != nil {
		return nil, err
	}
	var mounts []Mount
	for i, s := range stores {
		target := fmt.Sprintf("%s/%d", r.objectsAt(), i)
		mounts = append(mounts, Mount{Source: s, Target: target, ReadOnly: true})
		// Its own list has paths of the host; git in the job would complain of each.
		if list := filepath.Join(s, "info/alternates"); exists(list) {
			mounts = append(mounts, Mount{Source: empty, Target: target + "/info/alternates", ReadOnly: true})
		}
	}
	return mounts, nil
}

// jobAlternates is the list by which a job's git borrows the user's and berth's objects, at the paths where the container sees them.
func (r *Repo) jobAlternates() (string, error) {
	stores, err := alternates(filepath.Join(r.bare(), "objects"))
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for i := range stores {
		fmt.Fprintf(&lines, "%s/%d\n", r.objectsAt(), i)
	}
	return lines.String(), nil
}

// objectsAt is where jobs see object stores.
func (r *Repo) objectsAt() string { return cmp.Or(r.store.objectsAt, jobObjects) }
