package worktree

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"berth/internal/near"
)

func (r *Repo) snapshotRef(ctx context.Context, ref string) (Snapshot, error) {
	if strings.ContainsAny(ref, "\n\x00") {
		return Snapshot{}, r.unknown(ctx, ref)
	}
	ids, err := r.objects(ctx, ref+"^{commit}", ref+"^{tree}", "refs/heads/"+ref+"^{commit}", "refs/tags/"+ref+"^{commit}")
	if err != nil {
		return Snapshot{}, err
	}
	if ids[0] == "" {
		return Snapshot{}, r.unknown(ctx, ref)
	}
	snap := Snapshot{Ref: ref, Commit: ids[0], Tree: ids[1]}
	switch {
	case ref == "HEAD" || ref == "@":
		snap.Branch, _, _, err = r.head(ctx)
	case ids[2] == ids[0] && ids[3] == "":
		snap.Branch = ref
	}
	if err != nil {
		return Snapshot{}, err
	}
	entries, err := r.treeEntries(ctx, snap.Tree)
	if err != nil {
		return Snapshot{}, err
	}
	all, subs, err := r.fillGitlinks(ctx, r.root, "", slices.Clone(entries))
	if err != nil {
		return Snapshot{}, err
	}
	tmp, release, err := r.tempDir()
	if err != nil {
		return Snapshot{}, err
	}
	defer release()
	if len(subs) > 0 {
		if snap.Tree, err = r.writeTree(ctx, tmp, all); err != nil {
			return Snapshot{}, err
		}
	}
	snap.Submodules, snap.Dependencies = subs, dependencies(all)
	converted, err := r.convert(ctx, tmp, &snap, all)
	if err != nil {
		return Snapshot{}, err
	}
	snap.Index, err = r.saveIndex(&index{entries: entries}, converted)
	return snap, err
}

// convert makes the snapshot of a ref one of the bytes that git would check out: with line endings, $Id$ and encodings as the attributes and the
// user's configuration ask for. Most repositories ask for nothing of the kind, on systems whose line ending is git's own. It returns the
// files whose bytes are not those of their blobs.
func (r *Repo) convert(ctx context.Context, tmp string, snap *Snapshot, entries []entry) (map[string]bool, error) {
	some := r.config.get("core.autocrlf") == "true" || r.config.get("core.eol") == "crlf"
	texts := []string{readSmall(filepath.Join(r.commonDir, "info/attributes"))}
	for _, e := range entries {
		if path.Base(e.path) == ".gitattributes" {
			blob, err := git{gitDir: r.bare()}.run(ctx, "cat-file", "blob", hex.EncodeToString([]byte(e.oid)))
			if err != nil {
				return nil, err
			}
			texts = append(texts, string(blob))
		}
	}
	for _, t := range texts {
		for _, w := range []string{"crlf", "ident", "working-tree-encoding"} {
			some = some || strings.Contains(t, w)
		}
	}
	if !some {
		return nil, nil
	}
	files, work := filepath.Join(tmp, "files"), filepath.Join(tmp, "git")
	for _, d := range []string{files, work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	g, err := r.scratch(source{root: files}, work)
	if err != nil {
		return nil, err
	}
	attributes := filepath.Join(work, "info/attributes")
	if err := os.WriteFile(attributes, []byte(texts[0]), 0o600); err != nil {
		return nil, err
	}
	as := g
	for _, k := range []string{"core.autocrlf", "core.eol"} {
		if v := r.config.get(k); v != "" {
			as.config = append(as.config, k+"="+v)
		}
	}
	if _, err := as.run(ctx, "read-tree", "--reset", "-u", snap.Tree); err != nil {
		return nil, err
	}
	// From here on the same files are bytes, and nothing is known of them.
	if err := os.WriteFile(attributes, []byte(rawAttributes), 0o600); err != nil {
		return nil, err
	}
	x, _, err := readIndex(g.index, r.hashSize())
	if err != nil {
		return nil, err
	}
	for i := range x.entries {
		x.entries[i].stat = stat{}
	}
	if err := x.write(g.index, r.hashSize()); err != nil {
		return nil, err
	}
	out, err := g.run(ctx, "ls-files", "-z", "-m")
	if err != nil || len(out) == 0 {
		return nil, err
	}
	g.objects, g.stdin = r.written(), bytes.NewReader(out)
	if _, err := g.run(ctx, "update-index", "-z", "--stdin"); err != nil {
		return nil, err
	}
	tree, err := g.run(ctx, "write-tree", "--missing-ok")
	if err != nil {
		return nil, err
	}
	snap.Tree = strings.TrimSpace(string(tree))
	converted := map[string]bool{}
	for _, p := range splitZ(out) {
		converted[p] = true
	}
	return converted, nil
}

// fillGitlinks replaces gitlinks by the files of their commits, where the submodule is there and has them.
func (r *Repo) fillGitlinks(ctx context.Context, root, prefix string, entries []entry) ([]entry, []Submodule, error) {
	x := &index{}
	var subs []Submodule
	for _, e := range entries {
		if e.mode != modeGitlink {
			x.entries = append(x.entries, e)
			continue
		}
		s := Submodule{Path: prefix + e.path}
		at := filepath.Join(root, e.path)
		dir := r.moduleDir(filepath.Join(at, ".git"))
		if dir == "" {
			if d := filepath.Join(r.commonDir, "modules", prefix+e.path); exists(filepath.Join(d, "objects")) {
				dir = d
			}
		}
		if dir != "" {
			if err := r.prepare(filepath.Join(dir, "objects")); err != nil {
				return nil, nil, err
			}
			commit := hex.EncodeToString([]byte(e.oid))
			inner, err := r.treeEntries(ctx, commit)
			var failed *GitError
			switch {
			case errors.As(err, &failed) && exitCode(err) > 0: // it does not have the commit
			case err != nil:
				return nil, nil, err
			default:
				files, deeper, err := r.fillGitlinks(ctx, at, prefix+e.path+"/", inner)
				if err != nil {
					return nil, nil, err
				}
				for _, in := range files {
					in.path = e.path + "/" + in.path
					x.entries = append(x.entries, in)
				}
				s.Commit, subs = commit, append(subs, deeper...)
			}
		}
		subs = append(subs, s)
	}
	x.sort()
	slices.SortFunc(subs, func(a, b Submodule) int { return cmp.Compare(a.Path, b.Path) })
	return x.entries, subs, nil
}

// treeEntries lists a tree with all below it.
func (r *Repo) treeEntries(ctx context.Context, tree string) ([]entry, error) {
	out, err := git{gitDir: r.bare()}.run(ctx, "ls-tree", "-r", "-z", tree)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, rec := range splitZ(out) {
		meta, path, _ := strings.Cut(rec, "\t")
		f := strings.Fields(meta)
		if len(f) != 3 {
			return nil, errors.New("git ls-tree: unexpected answer")
		}
		mode, err := strconv.ParseUint(f[0], 8, 32)
		if err != nil {
			return nil, err
		}
		oid, err := hex.DecodeString(f[2])
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{path: path, mode: uint32(mode), oid: string(oid)})
	}
	return entries, nil
}

// unknown is the error for a ref, with the names that are near it.
func (r *Repo) unknown(ctx context.Context, ref string) error {
	out, err := r.userGit().run(ctx, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags", "refs/remotes")
	if err != nil {
		return err
	}
	names := near.Names(ref, strings.Fields(string(out)), max(2, len(ref)/3), 5, func(name string) int {
		if ref != "" && strings.Contains(strings.ToLower(name), strings.ToLower(ref)) {
			return 2
		}
		return near.Never
	})
	return &UnknownRefError{Ref: ref, Near: names}
}
