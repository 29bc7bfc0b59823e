package worktree

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A base is a layer with all files of one snapshot, a delta one with what another snapshot has instead. A base's directory has beside the files
// the git index of its checkout, and, in that of the base in general, prepared indexes for jobs, named index-<saved index>.
const (
	basePrefix  = "base-"
	deltaPrefix = "delta-"
	indexName   = "index"
)

const (
	// A snapshot that differs from a base in more than one of so many files gets a base of its own.
	deltaShare = 10
	// Below so many files a delta is always fine.
	deltaAlways = 50
	// How many bases are compared with a snapshot, the last used ones.
	basesTried = 3
	// How many prepared indexes a base keeps.
	indexesKept = 8
	// After this a file that was just checked out has another time when it is changed, in whole seconds.
	indexSettled = 2 * time.Second
)

// state is the layers that show a snapshot.
type state struct {
	layers []string // directories of files, uppermost first
	base   string   // directory of the base's layer
	delta  string   // of the delta's, "" when the base alone shows the snapshot
}

// state finds or makes the layers that show exactly the files of tree above extras, which are layers of other files. Making is done once, whoever
// asks for it at the same time.
func (r *Repo) state(ctx context.Context, tree string, extras []string) (state, error) {
	if s, err := r.deltaState(ctx, tree, extras); err != nil || s.base != "" {
		return s, err
	}
	// One base at a time: those who wait for the first find that a delta will do.
	if err := os.MkdirAll(filepath.Join(r.cache, layersName), 0o700); err != nil {
		return state{}, err
	}
	unlock, err := lockContext(ctx, filepath.Join(r.cache, layersName, "base.lock"))
	if err != nil {
		return state{}, err
	}
	defer unlock()
	if s, err := r.deltaState(ctx, tree, extras); err != nil || s.base != "" {
		return s, err
	}
	dir, err := r.layer(ctx, basePrefix+tree, func(dir string) (layerInfo, error) { return r.makeBase(ctx, dir, tree) })
	if err != nil {
		return state{}, err
	}
	return state{layers: []string{filepath.Join(dir, layerTree)}, base: dir}, nil
}

// deltaState is a state on top of a base that is there already. Its base is "" when none is near enough.
func (r *Repo) deltaState(ctx context.Context, tree string, extras []string) (state, error) {
	bases := layers(r.cache, basePrefix)
	if i := slices.IndexFunc(bases, func(b usedLayer) bool { return b.info.Tree == tree }); i >= 0 {
		dir, err := r.layer(ctx, basePrefix+tree, func(dir string) (layerInfo, error) { return r.makeBase(ctx, dir, tree) })
		return state{layers: []string{filepath.Join(dir, layerTree)}, base: dir}, err
	}
	var best usedLayer
	var changes []change
	for i, b := range bases[:min(len(bases), basesTried)] {
		if exists(filepath.Join(r.cache, layersName, deltaName(tree, b.info.Tree), layerInfoName)) {
			best, changes = b, nil
			break
		}
		found, err := r.compare(ctx, b.info.Tree, tree)
		if errors.As(err, new(*GitError)) && ctx.Err() == nil {
			continue // its tree is gone, as happens to a deleted branch: its files are of no use any more
		}
		if err != nil {
			return state{}, err
		}
		if len(found) <= max(deltaAlways, b.info.Files/deltaShare) && (best.dir == "" || len(found) < len(changes)) {
			best, changes = b, found
		}
		if i == 0 && len(found) <= deltaAlways {
			break
		}
	}
	if best.dir == "" {
		return state{}, nil
	}
	base, err := r.layer(ctx, filepath.Base(best.dir), func(dir string) (layerInfo, error) { return r.makeBase(ctx, dir, best.info.Tree) })
	if err != nil {
		return state{}, err
	}
	delta, err := r.layer(ctx, deltaName(tree, best.info.Tree), func(dir string) (layerInfo, error) {
		if changes == nil {
			if changes, err = r.compare(ctx, best.info.Tree, tree); err != nil {
				return layerInfo{}, err
			}
		}
		return r.makeDelta(ctx, dir, changes)
	})
	if err != nil {
		return state{}, err
	}
	files := filepath.Join(delta, layerTree)
	if hides, err := hidesAny(files, extras); err != nil || hides {
		return state{}, err // a deletion in the delta would be one of the extras' files
	}
	return state{layers: []string{files, filepath.Join(base, layerTree)}, base: base, delta: delta}, nil
}

func deltaName(tree, base string) string { return deltaPrefix + tree + "-" + base[:16] }

// change is a difference between two trees: what is at path in the second, or that the path is gone with all below it.
type change struct {
	entry
	gone bool
}

// compare lists what tree has instead of what base has.
func (r *Repo) compare(ctx context.Context, base, tree string) ([]change, error) {
	out, err := git{gitDir: r.bare()}.run(ctx, "diff-tree", "-r", "-t", "-z", "--raw", "--no-renames", "--full-index", "--no-abbrev", base, tree)
	if err != nil {
		return nil, err
	}
	recs := splitZ(out)
	var changes []change
	gone := map[string]bool{}
	for i := 0; i+1 < len(recs); i += 2 {
		// :100644 100755 <old> <new> M
		f := strings.Fields(strings.TrimPrefix(recs[i], ":"))
		p := recs[i+1]
		if len(f) != 5 {
			return nil, errors.New("git diff-tree: unexpected answer")
		}
		var c change
		if _, err := fmt.Sscanf(f[1], "%o", &c.mode); err != nil {
			return nil, errors.New("git diff-tree: unexpected answer")
		}
		c.path, c.gone = p, c.mode == 0
		switch {
		case c.mode == modeDir || c.gone && below(p, gone):
			continue
		case c.gone:
			gone[p] = true
		default:
			oid, err := hex.DecodeString(f[3])
			if err != nil {
				return nil, err
			}
			c.oid = string(oid)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// makeBase writes all files of a tree, byte for byte.
func (r *Repo) makeBase(ctx context.Context, dir, tree string) (layerInfo, error) {
	files := filepath.Join(dir, layerTree)
	x, err := r.checkout(ctx, files, filepath.Join(dir, indexName), tree)
	if err != nil {
		return layerInfo{}, err
	}
	info := layerInfo{Tree: tree, Files: len(x.entries)}
	for _, e := range x.entries {
		info.Bytes += onDisk(int64(e.stat.size))
	}
	return info, nil
}

// onDisk is what a file takes on a disk with blocks of the usual size, with its inode and its entry in an index.
func onDisk(size int64) int64 { return (size+4095)/4096*4096 + 512 }

// checkout writes the files of a tree into the directory files, which it makes, and the index with what is known of them on disk.
func (r *Repo) checkout(ctx context.Context, files, index, tree string) (*index, error) {
	if err := os.MkdirAll(files, 0o755); err != nil {
		return nil, err
	}
	tmp, release, err := r.tempDir()
	if err != nil {
		return nil, err
	}
	defer release()
	g, err := r.scratch(source{root: files}, tmp)
	if err != nil {
		return nil, err
	}
	g.index = index
	g.config = append(g.config, fmt.Sprintf("checkout.workers=%d", min(runtime.NumCPU(), 8)), "core.fileMode=true")
	if _, err := g.run(ctx, "read-tree", "--reset", "-u", tree); err != nil {
		return nil, err
	}
	x, _, err := readIndex(index, r.hashSize())
	return x, err
}

// makeDelta writes what changed, and a whiteout for what is gone.
func (r *Repo) makeDelta(ctx context.Context, dir string, changes []change) (layerInfo, error) {
	files := filepath.Join(dir, layerTree)
	if err := os.Mkdir(files, 0o755); err != nil {
		return layerInfo{}, err
	}
	tmp, release, err := r.tempDir()
	if err != nil {
		return layerInfo{}, err
	}
	defer release()
	g, err := r.scratch(source{root: files}, tmp)
	if err != nil {
		return layerInfo{}, err
	}
	g.index = filepath.Join(dir, indexName)
	x := &index{}
	info := layerInfo{Files: len(changes), Bytes: 4096}
	for _, c := range changes {
		if !c.gone {
			x.entries = append(x.entries, c.entry)
		}
	}
	x.sort()
	if err := x.write(g.index, r.hashSize()); err != nil {
		return layerInfo{}, err
	}
	if len(x.entries) > 0 {
		if _, err := g.run(ctx, "checkout-index", "--all", "--force", "-u"); err != nil {
			return layerInfo{}, err
		}
		if x, _, err = readIndex(g.index, r.hashSize()); err != nil {
			return layerInfo{}, err
		}
		for _, e := range x.entries {
			info.Bytes += onDisk(int64(e.stat.size))
		}
	}
	for _, c := range changes {
		if !c.gone || exists(filepath.Join(files, c.path)) { // something else is in its place
			continue
		}
		at := filepath.Join(files, c.path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return layerInfo{}, err
		}
		if err := whiteout(at); err != nil {
			return layerInfo{}, err
		}
	}
	return info, nil
}

// hidesAny tells whether a deletion in a delta hides something of the extra layers.
func hidesAny(delta string, extras []string) (bool, error) {
	if len(extras) == 0 {
		return false, nil
	}
	hides := false
	err := filepath.WalkDir(delta, func(p string, d os.DirEntry, err error) error {
		if err != nil || !isWhiteout(d) {
			return err
		}
		rel, err := filepath.Rel(delta, p)
		for _, x := range extras {
			hides = hides || exists(filepath.Join(x, rel))
		}
		return err
	})
	return hides, err
}

// preparedIndex is the path of the index with which a job's git begins: the user's, with what is known of the files in the layers. It is
// made once for each base and saved index; it may be removed, but is never written again.
func (r *Repo) preparedIndex(snap Snapshot, s state) (string, error) {
	name := snap.Index
	if !filepath.IsLocal(name) || strings.Contains(name, "/") {
		return "", fmt.Errorf("index %q is none of ours", name)
	}
	dir := s.base
	if s.delta != "" && strings.HasPrefix(name, filteredPrefix) {
		dir = s.delta // git takes filtered files for unchanged by their times alone, those in the delta as well
	}
	// git looks into every file that is not older than its index by a whole second, as it may have been changed since without a trace in the
	// times. A job that begins at once may still do that to a base; later ones need not pay for it.
	info, err := os.Stat(filepath.Join(dir, indexName))
	if err != nil {
		return "", err
	}
	settled := time.Since(info.ModTime()) > indexSettled
	out := filepath.Join(dir, indexName+"-"+name)
	if !settled {
		out += "-fresh"
	}
	if exists(out) {
		return out, nil
	}
	checkout, _, err := readIndex(filepath.Join(s.base, indexName), r.hashSize())
	if err != nil {
		return "", err
	}
	if dir == s.delta {
		delta, _, err := readIndex(filepath.Join(dir, indexName), r.hashSize())
		if err != nil {
			return "", err
		}
		var added []entry
		for _, e := range delta.entries {
			if old := checkout.find(e.path); old != nil {
				*old = e
			} else {
				added = append(added, e)
			}
		}
		checkout.entries = append(checkout.entries, added...)
		checkout.sort()
		checkout.mtime = delta.mtime
	}
	x, err := r.jobIndex(name, checkout)
	if err != nil {
		return "", err
	}
	if settled {
		x.mtime = info.ModTime().Add(indexSettled)
	}
	// Whole or not at all, also for others who make it now.
	if err := x.write(out, r.hashSize()); err != nil {
		return "", err
	}
	pruneIndexes(dir)
	return out, nil
}

// pruneIndexes removes the prepared indexes that were not used for the longest time: each use makes a link, which sets the
// ctime. Jobs have links of their own to theirs.
func pruneIndexes(dir string) {
	type prepared struct {
		path string
		used int64
	}
	var all []prepared
	found, _ := filepath.Glob(filepath.Join(globQuoter.Replace(dir), indexName+"-*"))
	for _, f := range found {
		var st unix.Stat_t
		if unix.Lstat(f, &st) == nil {
			all = append(all, prepared{f, st.Ctim.Nano()})
		}
	}
	slices.SortFunc(all, func(a, b prepared) int { return cmp.Compare(b.used, a.used) })
	for _, p := range all[min(len(all), indexesKept):] {
		os.Remove(p.path)
	}
}
