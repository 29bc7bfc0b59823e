package worktree

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Branched says what [Repo.Branch] has made.
type Branched struct {
	Name    string    `json:"name"`
	Commit  string    `json:"commit"`            // what the branch points to
	Commits int       `json:"commits"`           // how many are new to the repository, the last included
	Skipped []Skipped `json:"skipped,omitempty"` // what is in the job's files but in no commit
}

// Branch makes a new branch in the user's repository, with the job's commits and one more for what they leave: changes of the job's, and what was
// uncommitted when it began. That one has message, the user as its author, and the present time.
// Neither the working tree nor any other ref changes, and no hook runs.
//
// Errors: [*BranchNameError], [*BranchExistsError], [*NoIdentityError], [*CommitsError], [*GitError].
func (r *Repo) Branch(ctx context.Context, name, message string, snap Snapshot, res Result) (Branched, error) {
	b, err := r.branch(ctx, name, message, snap, res)
	if err != nil {
		return Branched{}, fmt.Errorf("make branch: %w", err)
	}
	return b, nil
}

func (r *Repo) branch(ctx context.Context, name, message string, snap Snapshot, res Result) (Branched, error) {
	ref := "refs/heads/" + name
	if err := r.checkNewBranch(ctx, name, ref); err != nil {
		return Branched{}, err
	}
	if res.NoHead != "" {
		return Branched{}, &CommitsError{Why: res.NoHead}
	}
	if err := r.prepare(filepath.Join(r.commonDir, "objects")); err != nil {
		return Branched{}, err
	}
	tmp, release, err := r.tempDir()
	if err != nil {
		return Branched{}, err
	}
	defer release()
	b := Branched{Name: name, Commit: cmp.Or(res.Head, snap.Commit)}
	c := &commitTree{repo: r, snap: snap, result: res, parent: &index{}}
	if b.Commit != "" {
		if c.parent, err = r.treeIndex(ctx, b.Commit); err != nil {
			return Branched{}, err
		}
	}
	if err := c.make(ctx); err != nil {
		return Branched{}, err
	}
	b.Skipped = c.skipped
	if b.Commit == "" || len(difference(c.parent, c.tree)) > 0 {
		tree, err := r.writeTree(ctx, tmp, c.tree.entries)
		if err != nil {
			return Branched{}, err
		}
		if b.Commit, err = r.commitTree(ctx, tree, b.Commit, message); err != nil {
			return Branched{}, err
		}
	}
	if b.Commits, err = r.send(ctx, b.Commit, snap.Commit, tmp); err != nil {
		return Branched{}, err
	}
	zero := strings.Repeat("0", 2*r.hashSize())
	_, err = r.userGit().run(ctx, "update-ref", "-m", "branch: created by berth", ref, b.Commit, zero)
	if err != nil {
		if again := r.checkNewBranch(ctx, name, ref); again != nil {
			return Branched{}, again
		}
		if exitCode(err) > 0 { // main is there, and so there can be no main/sub
			return Branched{}, &BranchNameError{Name: name}
		}
	}
	return b, err
}

// CheckBranch tells whether [Repo.Branch] can make a branch of that name now. Errors: [*BranchNameError], [*BranchExistsError].
func (r *Repo) CheckBranch(ctx context.Context, name string) error {
	return r.checkNewBranch(ctx, name, "refs/heads/"+name)
}

// checkNewBranch tells whether a branch can be called name, and is not there.
func (r *Repo) checkNewBranch(ctx context.Context, name, ref string) error {
	if strings.HasPrefix(name, "-") || name == "HEAD" || name == "@" || len(name) > 200 || strings.ContainsRune(name, 0) {
		return &BranchNameError{Name: name}
	}
	_, err := git{}.run(ctx, "check-ref-format", ref)
	if exitCode(err) > 0 {
		return &BranchNameError{Name: name}
	}
	if err != nil {
		return err
	}
	_, err = r.userGit().run(ctx, "show-ref", "--verify", "--quiet", ref)
	switch {
	case err == nil:
		return &BranchExistsError{Name: name}
	case exitCode(err) == 1:
		return nil
	}
	return err
}

// commitTree is the tree of a commit made from the files of a job: as git would have it if they were added in the user's checkout.
type commitTree struct {
	repo    *Repo
	snap    Snapshot
	result  Result
	parent  *index // of the commit before
	base    *index // the snapshot's files
	saved   *index // the user's index at the snapshot
	tree    *index
	skipped []Skipped
}

func (c *commitTree) make(ctx context.Context) error {
	r := c.repo
	var err error
	if c.base, err = r.treeIndex(ctx, c.snap.Tree); err != nil {
		return err
	}
	files, err := r.treeIndex(ctx, c.result.Tree)
	if err != nil {
		return err
	}
	if c.saved = (&index{}); c.snap.Index != "" && filepath.IsLocal(c.snap.Index) {
		if c.saved, _, err = readIndex(filepath.Join(r.cache, "index", c.snap.Index), r.hashSize()); err != nil {
			return err
		}
	}
	modules := c.modules()
	c.tree = &index{}
	var endings []int
	converts, _ := r.conversions(source{root: r.root}, c.base)
	for _, e := range files.entries {
		if m := within(e.path, modules); m != "" {
			if b := c.base.find(e.path); b == nil || b.oid != e.oid || b.mode != e.mode {
				c.skipped = append(c.skipped, Skipped{Path: e.path, Why: "belongs to the submodule " + m + ", which has commits of its own"})
			}
			continue
		}
		if u := c.asUser(e); u != nil {
			e.oid, e.mode = u.oid, u.mode
		} else if converts && e.mode != modeLink {
			if p := c.parent.find(e.path); p != nil && p.oid != e.oid && p.mode != modeLink && p.mode != modeGitlink {
				endings = append(endings, len(c.tree.entries))
			}
		}
		c.tree.entries = append(c.tree.entries, e)
	}
	for _, e := range c.base.entries {
		if m := within(e.path, modules); m != "" && files.find(e.path) == nil && files.has(m) {
			c.skipped = append(c.skipped, Skipped{Path: e.path, Why: "belongs to the submodule " + m + ", which has commits of its own"})
		}
	}
	for _, m := range modules {
		if e := c.gitlink(m, files); e != nil {
			c.tree.entries = append(c.tree.entries, *e)
		}
	}
	for _, e := range c.saved.entries { // what a sparse checkout leaves out
		if e.skip && e.stage == 0 && c.base.find(e.path) == nil && files.find(e.path) == nil && !files.has(e.path) && e.mode != modeGitlink {
			c.tree.entries = append(c.tree.entries, entry{path: e.path, mode: e.mode, oid: e.oid})
		}
	}
	if err := c.lineEndings(ctx, endings); err != nil {
		return err
	}
	c.tree.sort()
	slices.SortFunc(c.skipped, func(a, b Skipped) int { return cmp.Compare(a.Path, b.Path) })
	return nil
}

// asUser is the entry of the user's index for a file that the job has left as it was, where git takes the bytes on disk for that blob.
func (c *commitTree) asUser(e entry) *entry {
	b, u := c.base.find(e.path), c.saved.find(e.path)
	if b == nil || u == nil || b.oid != e.oid || b.mode != e.mode || u.stat.size == 0 {
		return nil
	}
	return u
}

// modules are the paths of the submodules that the snapshot's own repository has.
func (c *commitTree) modules() []string {
	var tops []string
	for _, s := range c.snap.Submodules { // sorted: outer ones first
		if within(s.Path, tops) == "" {
			tops = append(tops, s.Path)
		}
	}
	return tops
}

// within is the one of the directories that path lies in, or "".
func within(path string, dirs []string) string {
	for _, d := range dirs {
		if strings.HasPrefix(path, d+"/") {
			return d
		}
	}
	return ""
}

// gitlink is the entry of a submodule; nil when the job has removed its files.
func (c *commitTree) gitlink(path string, files *index) *entry {
	if c.base.has(path) && !files.has(path) || files.find(path) != nil {
		return nil
	}
	e := entry{path: path, mode: modeGitlink}
	for _, s := range c.snap.Submodules {
		if raw, err := hex.DecodeString(s.Commit); s.Path == path && err == nil && len(raw) == c.repo.hashSize() && c.snap.Ref == "" {
			e.oid = string(raw)
			return &e
		}
	}
	if u := c.saved.find(path); u != nil && u.mode == modeGitlink {
		e.oid = u.oid
		return &e
	}
	return nil
}

// maxLineEndings is the size in bytes up to which a file's line endings are looked at.
const maxLineEndings = 16 << 20

// lineEndings takes the carriage returns out of files whose blob before has none, where the user's settings have git convert.
// Else a changed line would show up as a change of all.
func (c *commitTree) lineEndings(ctx context.Context, list []int) error {
	var oids []string
	for _, i := range list {
		e := c.tree.entries[i]
		oids = append(oids, hex.EncodeToString([]byte(c.parent.find(e.path).oid)), hex.EncodeToString([]byte(e.oid)))
	}
	plain := make([]bool, len(oids))
	bare := map[int][]byte{}
	err := c.repo.blobs(ctx, oids, func(i int, size int64, in io.Reader) error {
		if size > maxLineEndings {
			return nil
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		crlf := bytes.Count(data, []byte("\r\n"))
		text := bytes.IndexByte(data, 0) < 0
		plain[i] = text && crlf == 0
		if i%2 == 1 && plain[i-1] && text && crlf > 0 && crlf == bytes.Count(data, []byte("\n")) {
			bare[list[i/2]] = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, data := range bare {
		id, err := c.repo.storeBlob(ctx, data)
		if err != nil {
			return err
		}
		raw, err := hex.DecodeString(id)
		if err != nil {
			return err
		}
		c.tree.entries[i].oid = string(raw)
	}
	return nil
}

// commitTree stores a commit by the user.
func (r *Repo) commitTree(ctx context.Context, tree, parent, message string) (string, error) {
	now := time.Now()
	date := fmt.Sprintf("@%d %s", now.Unix(), now.Format("-0700"))
	env := []string{"GIT_AUTHOR_DATE=" + date, "GIT_COMMITTER_DATE=" + date}
	for _, who := range []string{"author", "committer"} {
		for _, what := range []string{"name", "email"} {
			variable := "GIT_" + strings.ToUpper(who) + "_" + strings.ToUpper(what)
			value := cmp.Or(os.Getenv(variable), r.config.get(who+"."+what), r.config.get("user."+what))
			if strings.Trim(value, " .,:;<>\"\\'\n\t") == "" {
				return "", &NoIdentityError{}
			}
			env = append(env, variable+"="+value)
		}
	}
	borrowed, err := r.borrowed()
	if err != nil {
		return "", err
	}
	args := []string{"commit-tree", tree}
	if parent != "" {
		args = append(args, "-p", parent)
	}
	g := git{gitDir: r.bare(), objects: r.written(), env: append(env, borrowed), stdin: strings.NewReader(message)}
	out, err := g.run(ctx, args...)
	return strings.TrimSpace(string(out)), err
}

// send stores a commit and what it needs in the user's repository, and returns how many commits were new.
func (r *Repo) send(ctx context.Context, commit, start, tmp string) (int, error) {
	pack, err := os.Create(filepath.Join(tmp, "send.pack"))
	if err != nil {
		return 0, err
	}
	defer pack.Close()
	if err := r.pack(ctx, git{gitDir: r.bare(), env: []string{"GIT_NO_REPLACE_OBJECTS=1"}}, commit, start, pack); err != nil {
		return 0, err
	}
	count, err := r.count(ctx, commit, start)
	if err != nil {
		return 0, err
	}
	var head [12]byte
	if _, err := pack.ReadAt(head[:], 0); err != nil {
		return 0, err
	}
	if bytes.Equal(head[8:], []byte{0, 0, 0, 0}) { // nothing is missing
		return count, nil
	}
	if _, err := pack.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	g := r.userGit()
	g.stdin = pack
	if _, err := g.run(ctx, "index-pack", "--stdin", "--strict"); err != nil {
		return 0, errors.Join(errors.New("hand the commits over"), err)
	}
	return count, nil
}

// count is how many commits no ref of the user's has.
func (r *Repo) count(ctx context.Context, commit, start string) (int, error) {
	tips, err := r.tips(ctx, start)
	if err != nil {
		return 0, err
	}
	g := git{gitDir: r.bare(), stdin: strings.NewReader(strings.Join(append([]string{commit}, tips...), "\n^") + "\n")}
	out, err := g.run(ctx, "rev-list", "--count", "--stdin")
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscan(string(out), &n)
	return n, err
}
