package worktree

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Snapshot is an immutable git tree of what a job is to see.
type Snapshot struct {
	Ref        string      `json:"ref,omitempty"`        // as asked for; "" for the working tree
	Commit     string      `json:"commit,omitempty"`     // object id; "" when there is no commit yet
	Branch     string      `json:"branch,omitempty"`     // short name of the branch; "" when detached
	Tree       string      `json:"tree"`                 // object id in berth's bare repository, submodules' files included
	Dirty      bool        `json:"dirty,omitempty"`      // git status would name something
	Submodules []Submodule `json:"submodules,omitempty"` // sorted by path
	Index      string      `json:"index,omitempty"`      // name of the saved index that the job's git starts from

	// Where the working tree may have installed what the snapshot's lock files name; sorted by path.
	Dependencies []Dependencies `json:"dependencies,omitempty"`
}

// Submodule is a submodule of a snapshot; its files are part of the snapshot's tree.
type Submodule struct {
	Path   string `json:"path"`             // relative to the top of the working tree
	Commit string `json:"commit,omitempty"` // what is checked out in it; "" when it has no commit, or its directory is empty
	Dirty  bool   `json:"dirty,omitempty"`
}

// Guards against files that nobody meant to be in a snapshot.
const (
	maxUntrackedFile = 100e6
	maxUntrackedAll  = 1e9
)

// Snapshot stores the files of ref, or with ref "" those of the working tree as it is now: tracked files as
// they are on disk and untracked ones that are not ignored, submodules' files included. Nested repositories that are no
// submodules are left out, and so are tracked files that a sparse checkout leaves out.
//
// A working tree is stored byte for byte, whatever filters and line endings its attributes name. Of a ref, line endings
// are those that its attributes ask for, and no filter runs.
//
// Errors: [*UnknownRefError], [*TooLargeError], [*GitError].
func (r *Repo) Snapshot(ctx context.Context, ref string) (Snapshot, error) {
	snap, err := Snapshot{}, r.prepare(filepath.Join(r.commonDir, "objects"))
	if err == nil && ref == "" {
		snap, err = r.snapshotTree(ctx)
	} else if err == nil {
		snap, err = r.snapshotRef(ctx, ref)
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot: %w", err)
	}
	return snap, nil
}

// head is what HEAD of the user's working tree points to. Commit and tree are "" when there is none yet.
func (r *Repo) head(ctx context.Context) (branch, commit, tree string, err error) {
	ids, err := r.objects(ctx, "HEAD^{commit}", "HEAD^{tree}")
	if err != nil {
		return "", "", "", err
	}
	out, err := r.userGit().run(ctx, "symbolic-ref", "-q", "HEAD")
	if err != nil && exitCode(err) != 1 {
		return "", "", "", err
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "refs/heads/"), ids[0], ids[1], nil
}

// objects are the ids of what the names mean in the user's repository, "" for what means nothing. Names go in on
// standard input, where none is taken for an option.
func (r *Repo) objects(ctx context.Context, names ...string) ([]string, error) {
	g := r.userGit()
	g.stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	out, err := g.run(ctx, "cat-file", "--batch-check=%(objectname)")
	if err != nil {
		return nil, err
	}
	ids := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(ids) != len(names) {
		return nil, errors.New("git cat-file: unexpected answer")
	}
	for i, id := range ids {
		if raw, err := hex.DecodeString(id); err != nil || len(raw) != r.hashSize() {
			ids[i] = ""
		}
	}
	return ids, nil
}

// source is a working tree whose files go into a snapshot: the repository's own, or a submodule's.
type source struct {
	root    string // its files
	prefix  string // path below the snapshot's top, with a slash at the end, or ""
	gitDir  string // "" when there is none
	objects string // its object store; "" when it must not be used
	exclude string // contents of info/exclude
}

// files is what was found in a source.
type files struct {
	actual     []entry         // as on disk, submodules included, paths from the top of the source
	user       *index          // the user's index
	seen       []entry         // as git status sees it: gitlinks, sparse files and filtered contents as in the index
	clean      map[string]bool // unchanged for git though their bytes are not the blob's
	changed    bool            // something is not as in the user's index
	submodules []Submodule
}

func (r *Repo) snapshotTree(ctx context.Context) (Snapshot, error) {
	branch, commit, headTree, err := r.head(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	tmp, release, err := r.tempDir()
	if err != nil {
		return Snapshot{}, err
	}
	defer release()
	top := source{
		root: r.root, gitDir: r.gitDir, objects: filepath.Join(r.commonDir, "objects"),
		exclude: readSmall(filepath.Join(r.commonDir, "info/exclude")),
	}
	found, err := r.scan(ctx, top, tmp)
	if err != nil {
		return Snapshot{}, err
	}
	snap := Snapshot{Branch: branch, Commit: commit, Submodules: found.submodules, Dependencies: dependencies(found.actual)}
	if snap.Tree, err = r.writeTree(ctx, tmp, found.actual); err != nil {
		return Snapshot{}, err
	}
	seen := snap.Tree
	if found.seen != nil {
		if seen, err = r.writeTree(ctx, tmp, found.seen); err != nil {
			return Snapshot{}, err
		}
	}
	snap.Dirty = found.changed || seen != headTree && (commit != "" || len(found.actual) > 0)
	slices.SortFunc(snap.Submodules, func(a, b Submodule) int { return cmp.Compare(a.Path, b.Path) })
	snap.Index, err = r.saveIndex(found.user, found.clean)
	return snap, err
}

// scan finds the files of a source and stores those that git does not have. tmp is for its temporary git directories.
func (r *Repo) scan(ctx context.Context, src source, tmp string) (*files, error) {
	work, err := os.MkdirTemp(tmp, "scan-")
	if err != nil {
		return nil, err
	}
	g, err := r.scratch(src, work)
	if err != nil {
		return nil, err
	}
	user := &index{}
	if src.gitDir != "" {
		if user, err = r.userIndex(ctx, src.gitDir, g); err != nil && (src.objects != "" || ctx.Err() != nil) {
			return nil, err
		} else if err != nil {
			user = &index{} // a job may have damaged it
		}
	}
	plain, forced, err := r.normalise(ctx, src, user, g)
	if err != nil {
		return nil, err
	}
	if err := plain.write(g.index, r.hashSize()); err != nil {
		return nil, err
	}
	out, err := g.run(ctx, "ls-files", "-z", "-t", "-o", "-m", "-d", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	todo := map[string]bool{}
	f := &files{user: user}
	var untracked []string
	gone, fresh := map[string]bool{}, map[string]bool{}
	for _, rec := range splitZ(out) {
		path := rec[2:]
		if strings.HasSuffix(path, "/") {
			continue // a nested repository
		}
		if rec[0] == '?' {
			untracked = append(untracked, path)
			fresh[path] = true
		}
		if rec[0] == 'R' {
			gone[path] = true
		}
		if !forced[path] {
			f.changed = true
		}
		todo[path] = true
	}
	if err := guard(src, untracked); err != nil {
		return nil, err
	}
	// What is gone is taken out here: update-index refuses a path whose directory is now a symbolic link.
	before := len(plain.entries)
	plain.entries = slices.DeleteFunc(plain.entries, func(e entry) bool {
		drop := gone[e.path] || len(fresh) > 0 && below(e.path, fresh)
		if drop {
			delete(todo, e.path)
			f.changed = true
		}
		return drop
	})
	if src.objects == "" {
		// What a job may have written is hashed anew, and nothing is borrowed from it.
		for _, e := range plain.entries {
			todo[e.path] = true
		}
		plain.entries = nil
	}
	if len(plain.entries) != before {
		if err := plain.write(g.index, r.hashSize()); err != nil {
			return nil, err
		}
	}
	if len(todo) > 0 {
		var list strings.Builder
		// In order: a file that became a directory must go before what is in it comes.
		for _, path := range slices.Sorted(maps.Keys(todo)) {
			list.WriteString(path + "\x00")
		}
		u := g
		u.objects = r.written()
		u.stdin = strings.NewReader(list.String())
		if _, err := u.run(ctx, "update-index", "-z", "--add", "--remove", "--replace", "--stdin"); err != nil {
			return nil, err
		}
	}
	actual, _, err := readIndex(g.index, r.hashSize())
	if err != nil {
		return nil, err
	}
	f.actual = actual.entries
	f.clean = forced
	return f, r.compose(ctx, src, f, forced, tmp)
}

// below says whether a directory above path is in set.
func below(path string, set map[string]bool) bool {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' && set[path[:i]] {
			return true
		}
	}
	return false
}

// compose adds the files of submodules, and works out what git status would see where that differs.
func (r *Repo) compose(ctx context.Context, src source, f *files, forced map[string]bool, tmp string) error {
	own := &index{entries: slices.Clone(f.actual)}
	var extra, deeper []entry
	for _, e := range f.user.entries {
		switch {
		case e.stage != 0:
			f.changed = true
		case e.mode == modeGitlink:
			extra = append(extra, e)
			sub, ok := r.submodule(src, e.path)
			if !ok {
				if !exists(filepath.Join(src.root, e.path)) {
					f.changed = true
				}
				f.submodules = append(f.submodules, Submodule{Path: src.prefix + e.path})
				continue
			}
			if sub.objects != "" {
				if err := r.prepare(sub.objects); err != nil {
					return err
				}
			}
			inner, err := r.scan(ctx, sub, tmp)
			if err != nil {
				return fmt.Errorf("submodule %s%s: %w", src.prefix, e.path, err)
			}
			commit := headCommit(sub.gitDir, r.hashSize())
			moved := commit != hex.EncodeToString([]byte(e.oid))
			f.changed = f.changed || moved || inner.changed
			f.submodules = append(f.submodules, Submodule{Path: src.prefix + e.path, Commit: commit, Dirty: moved || inner.changed})
			f.submodules = append(f.submodules, inner.submodules...)
			for _, in := range inner.actual {
				in.path = e.path + "/" + in.path
				deeper = append(deeper, in)
			}
		case e.skip && own.find(e.path) == nil:
			extra = append(extra, e)
		}
	}
	if len(extra) == 0 && len(forced) == 0 {
		return nil
	}
	for i, e := range own.entries {
		if u := f.user.find(e.path); u != nil && forced[e.path] {
			own.entries[i].oid = u.oid
		}
	}
	// Files where a submodule should be belong to no entry of git's.
	own.entries = slices.DeleteFunc(own.entries, func(e entry) bool {
		return slices.ContainsFunc(extra, func(x entry) bool { return strings.HasPrefix(e.path, x.path+"/") })
	})
	own.entries = append(own.entries, extra...)
	own.sort()
	f.seen = own.entries
	all := &index{entries: append(f.actual, deeper...)}
	all.sort()
	f.actual = all.entries
	return nil
}

// scratch makes a git directory in which git sees the files of a source as bytes, with nobody's configuration.
func (r *Repo) scratch(src source, dir string) (git, error) {
	d := gitDir{head: "ref: refs/heads/main", config: formatConfig(r.format, false), exclude: src.exclude, attributes: rawAttributes}
	g := git{
		dir: src.root, gitDir: dir, workTree: src.root, index: filepath.Join(dir, "index"),
		objects: filepath.Join(r.bare(), "objects"), config: append(r.config.core(), "core.excludesFile="+r.excludesFile()),
	}
	return g, d.make(dir)
}

// excludesFile is the user's own list of what to ignore.
func (r *Repo) excludesFile() string {
	if f := r.config.get("core.excludesfile"); f != "" {
		if rest, ok := strings.CutPrefix(f, "~/"); ok {
			return filepath.Join(os.Getenv("HOME"), rest)
		}
		return f
	}
	if x := os.Getenv("XDG_CONFIG_HOME"); x != "" {
		return filepath.Join(x, "git/ignore")
	}
	if h := os.Getenv("HOME"); h != "" {
		return filepath.Join(h, ".config/git/ignore")
	}
	return "/dev/null"
}

// userIndex reads an index of the user's. A split one is first made whole by git, as a copy.
func (r *Repo) userIndex(ctx context.Context, gitDir string, g git) (*index, error) {
	x, data, err := readIndex(filepath.Join(gitDir, "index"), r.hashSize())
	if err != nil || !x.split {
		return x, errors.Join(err, r.expand(ctx, x))
	}
	// Reading a split index touches the time of its shared part: that is copied as well.
	shared, err := filepath.Glob(filepath.Join(globQuoter.Replace(gitDir), "sharedindex.*"))
	if err != nil {
		return nil, err
	}
	for _, s := range shared {
		part, err := readRegular(s)
		if err != nil {
			return nil, fmt.Errorf("read the git index: %w", err)
		}
		if err := os.WriteFile(filepath.Join(g.gitDir, filepath.Base(s)), part, 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(g.index, data, 0o600); err != nil {
		return nil, err
	}
	if err := os.Chtimes(g.index, x.mtime, x.mtime); err != nil {
		return nil, err
	}
	if _, err := g.run(ctx, "update-index", "--no-split-index", "--force-write-index"); err != nil {
		return nil, err
	}
	whole, _, err := readIndex(g.index, r.hashSize())
	if err != nil {
		return nil, err
	}
	whole.mtime = x.mtime
	return whole, r.expand(ctx, whole)
}

// expand replaces the directories of a sparse index by their files. git would write trees to do it.
func (r *Repo) expand(ctx context.Context, x *index) error {
	if x == nil || !x.sparse {
		return nil
	}
	var all []entry
	for _, e := range x.entries {
		if e.mode != modeDir {
			all = append(all, e)
			continue
		}
		files, err := r.treeEntries(ctx, hex.EncodeToString([]byte(e.oid)))
		if err != nil {
			return err
		}
		for _, f := range files {
			f.path, f.skip = e.path+f.path, true
			all = append(all, f)
		}
	}
	x.entries, x.sparse = all, false
	x.sort()
	return nil
}

var globQuoter = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// normalise is the user's index with nothing in it that hides a file from git: no gitlinks, flags or stages. forced are the
// files whose bytes on disk are not those of their blob though the index takes them for unchanged, because of a
// filter or line endings.
func (r *Repo) normalise(ctx context.Context, src source, user *index, g git) (plain *index, forced map[string]bool, err error) {
	plain = &index{mtime: user.mtime, entries: make([]entry, 0, len(user.entries))}
	for _, e := range user.entries {
		if e.mode == modeGitlink || e.mode == modeDir {
			continue
		}
		if e.skip && !exists(filepath.Join(src.root, e.path)) {
			continue
		}
		if n := len(plain.entries); n > 0 && plain.entries[n-1].path == e.path {
			continue // a later stage
		}
		if e.stage != 0 || e.intend || src.objects == "" {
			e.stat = stat{}
		}
		e.stage, e.assume, e.skip, e.intend = 0, false, false, false
		plain.entries = append(plain.entries, e)
	}
	converts, always := r.conversions(src, plain)
	if !converts || len(plain.entries) == 0 || src.objects == "" {
		return plain, nil, nil
	}
	var names strings.Builder
	for _, e := range plain.entries {
		names.WriteString(hex.EncodeToString([]byte(e.oid)) + "\n")
	}
	g.stdin = strings.NewReader(names.String())
	out, err := g.run(ctx, "cat-file", "--batch-check=%(objectsize)")
	if err != nil {
		return nil, nil, err
	}
	forced = map[string]bool{}
	for i, size := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		e := &plain.entries[i]
		if e.stat != (stat{}) && (always || size != fmt.Sprint(e.stat.size)) {
			// One that the user has changed is not as the index says, and found anyway.
			if info, err := os.Lstat(filepath.Join(src.root, e.path)); err == nil && sameWrite(info, e.stat) {
				forced[e.path] = true
			}
			e.stat = stat{}
		}
	}
	return plain, forced, nil
}

// sameWrite says whether a file was not written since the index saw it, as far as its size and time tell.
func sameWrite(info fs.FileInfo, s stat) bool {
	t := info.ModTime()
	return uint32(info.Size()) == s.size && uint32(t.Unix()) == s.mtimeSec && (uint32(t.Nanosecond()) == s.mtimeNsec || s.mtimeNsec == 0)
}

// conversions says whether bytes on disk may differ from blobs that the index takes for the same, and whether they may even
// at equal size. Line endings, $Id$ and the well-known filters always change the size.
func (r *Repo) conversions(src source, x *index) (some, always bool) {
	texts := []string{readSmall(filepath.Join(r.commonDir, "info/attributes"))}
	for _, p := range [...]string{r.config.get("core.attributesfile"), filepath.Join(filepath.Dir(r.excludesFile()), "attributes")} {
		if rest, ok := strings.CutPrefix(p, "~/"); ok {
			p = filepath.Join(os.Getenv("HOME"), rest)
		}
		if filepath.IsAbs(p) {
			data, _ := os.ReadFile(p)
			texts = append(texts, string(data))
		}
	}
	for _, e := range x.entries {
		if filepath.Base(e.path) == ".gitattributes" {
			texts = append(texts, readSmall(filepath.Join(src.root, e.path)))
		}
	}
	crlf := r.config.get("core.autocrlf")
	some = crlf != "" && crlf != "false"
	for _, t := range texts {
		for _, w := range []string{"text", "crlf", "eol", "ident", "filter", "encoding"} {
			some = some || strings.Contains(t, w)
		}
		t = strings.NewReplacer("filter=lfs", "", "filter=git-crypt", "").Replace(t)
		always = always || strings.Contains(t, "filter") || strings.Contains(t, "encoding")
	}
	return some, some && always
}

// guard refuses untracked files that are too large to be meant.
func guard(src source, untracked []string) error {
	var all int64
	var big, sizes []LargeFile
	for _, p := range untracked {
		info, err := os.Lstat(filepath.Join(src.root, p))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		f := LargeFile{Path: src.prefix + p, Size: info.Size()}
		all += f.Size
		sizes = append(sizes, f)
		if f.Size > maxUntrackedFile {
			big = append(big, f)
		}
	}
	largest := func(a, b LargeFile) int { return cmp.Compare(b.Size, a.Size) }
	if len(big) == 0 && all > maxUntrackedAll {
		slices.SortFunc(sizes, largest)
		big = sizes[:min(len(sizes), 10)]
	}
	if len(big) == 0 {
		return nil
	}
	slices.SortFunc(big, largest)
	return &TooLargeError{Files: big}
}

// writeTree stores a tree of entries, which may be gitlinks.
func (r *Repo) writeTree(ctx context.Context, tmp string, entries []entry) (string, error) {
	work, err := os.MkdirTemp(tmp, "tree-")
	if err != nil {
		return "", err
	}
	g, err := r.scratch(source{root: work}, work)
	if err != nil {
		return "", err
	}
	if err := (&index{entries: entries}).write(g.index, r.hashSize()); err != nil {
		return "", err
	}
	g.objects = r.written()
	out, err := g.run(ctx, "write-tree", "--missing-ok")
	return strings.TrimSpace(string(out)), err
}
