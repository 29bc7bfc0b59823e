package worktree

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Dependencies is a directory of installed dependencies that a working tree may have beside a lock file of a snapshot.
type Dependencies struct {
	Path string `json:"path"` // relative to the top, such as "web/node_modules"
	Lock string `json:"lock"` // the lock file's path
	Blob string `json:"blob"` // object id of the lock file's bytes
}

// lockNames are the lock files of package managers, and where these put what they install.
var lockNames = map[string][]string{
	"package-lock.json": {"node_modules"}, "npm-shrinkwrap.json": {"node_modules"}, "yarn.lock": {"node_modules"},
	"pnpm-lock.yaml": {"node_modules"}, "bun.lock": {"node_modules"}, "bun.lockb": {"node_modules"},
	"uv.lock": {".venv"}, "poetry.lock": {".venv"}, "pdm.lock": {".venv"}, "Pipfile.lock": {".venv", "venv"}, "requirements.txt": {".venv", "venv"},
	"Gemfile.lock": {"vendor/bundle"},
}

// dependencies finds in the sorted entries of a snapshot where installed dependencies would be that the snapshot itself has not got. The packages of a
// JavaScript workspace have a directory each and one lock file above them.
func dependencies(entries []entry) []Dependencies {
	type lockFile struct{ path, blob string }
	locks := map[string]lockFile{} // by the directory of dependencies
	var packages []string
	for _, e := range entries {
		name := path.Base(e.path)
		if e.mode&0o170000 != 0o100000 {
			continue
		}
		for _, to := range lockNames[name] {
			at := path.Join(path.Dir(e.path), to)
			if _, ok := locks[at]; !ok {
				locks[at] = lockFile{e.path, hex.EncodeToString([]byte(e.oid))}
			}
		}
		if name == "package.json" {
			packages = append(packages, path.Dir(e.path))
		}
	}
	for _, p := range packages {
		for dir := p; ; dir = path.Dir(dir) {
			if l, ok := locks[path.Join(dir, "node_modules")]; ok {
				locks[path.Join(p, "node_modules")] = l
				break
			}
			if dir == "." {
				break
			}
		}
	}
	var found []Dependencies
	for at, l := range locks {
		i, _ := slices.BinarySearchFunc(entries, at+"/", func(e entry, p string) int { return strings.Compare(e.path, p) })
		if i < len(entries) && strings.HasPrefix(entries[i].path, at+"/") {
			continue // vendored
		}
		found = append(found, Dependencies{at, l.path, l.blob})
	}
	slices.SortFunc(found, func(a, b Dependencies) int { return strings.Compare(a.Path, b.Path) })
	return found
}

// CarryError says that a path of the working tree cannot be carried into a job.
type CarryError struct{ Path, Why string }

func (e *CarryError) Error() string { return fmt.Sprintf("cannot carry %q: it %s", e.Path, e.Why) }

// Carry returns layers with files of the user's working tree that are no part of the snapshot, uppermost first: those at the paths, relative to the
// top; or with none, directories of installed dependencies whose lock file is the same in the snapshot. A layer is made once, and again when what it is made of has
// changed: dependencies by hard links where that can be, since package managers replace files and do not write into them; paths given by copies. No symbolic link is followed.
//
// Errors: [*CarryError] for a path given.
func (r *Repo) Carry(ctx context.Context, snap Snapshot, paths []string) ([]string, error) {
	sum := sha256.New()
	var carried []string
	for _, p := range paths {
		p, err := r.carryPath(p)
		if err != nil {
			return nil, err
		}
		if err := r.fingerprint(ctx, sum, p); err != nil {
			return nil, fmt.Errorf("carry %s: %w", p, err)
		}
		carried = append(carried, p)
	}
	if len(paths) == 0 {
		for _, d := range snap.Dependencies {
			if r.installed(sum, d) {
				carried = append(carried, d.Path)
			}
		}
	}
	if len(carried) == 0 {
		return nil, nil
	}
	dir, err := r.layer(ctx, "carry-"+hex.EncodeToString(sum.Sum(nil)[:16]), func(dir string) (layerInfo, error) {
		files := filepath.Join(dir, layerTree)
		if err := os.Mkdir(files, 0o755); err != nil {
			return layerInfo{}, err
		}
		var all layerInfo
		for _, p := range carried {
			made, err := linkTree(ctx, r.root, p, files, len(paths) == 0)
			if err != nil {
				return layerInfo{}, err
			}
			all.Bytes += made.Bytes
			all.Files += made.Files
		}
		return all, nil
	})
	if err != nil {
		return nil, err
	}
	return []string{filepath.Join(dir, layerTree)}, nil
}

// carryPath checks a path that a user gave.
func (r *Repo) carryPath(given string) (string, error) {
	p := filepath.Clean(given)
	if filepath.IsAbs(p) {
		rel, err := filepath.Rel(r.root, p)
		if err != nil {
			return "", &CarryError{given, "is outside the repository"}
		}
		p = rel
	}
	if p == "." {
		return "", &CarryError{given, "is the whole working tree"}
	}
	if given == "" || !filepath.IsLocal(p) {
		return "", &CarryError{given, "is outside the repository"}
	}
	at := r.root
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if strings.EqualFold(part, ".git") && i == 0 {
			return "", &CarryError{given, "belongs to git"}
		}
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", &CarryError{given, "does not exist"}
		case err != nil:
			return "", &CarryError{given, "cannot be looked at: " + err.Error()}
		case info.Mode()&fs.ModeSymlink != 0:
			return "", &CarryError{given, "leads through the symbolic link " + at}
		case i < len(parts)-1 && !info.IsDir():
			return "", &CarryError{given, "is below the file " + at}
		}
	}
	return p, nil
}

// fingerprint adds to sum what tells whether files at a path have changed.
func (r *Repo) fingerprint(ctx context.Context, sum hash.Hash, p string) error {
	root, err := os.OpenRoot(r.root)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), filepath.ToSlash(p), func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil { // else it has just gone
			noteStat(sum, p, info)
		}
		return nil
	})
}

func noteStat(sum hash.Hash, p string, info fs.FileInfo) {
	if info.IsDir() {
		fmt.Fprintf(sum, "%q %v\n", p, info.Mode())
		return
	}
	fmt.Fprintf(sum, "%q %v %d %d %d\n", p, info.Mode(), info.Size(), info.ModTime().UnixNano(), statOf(info).ino)
}

// markers are what package managers change when they install something: files that they write last, and directories that get a new entry.
var markers = []string{
	".package-lock.json", ".yarn-integrity", ".yarn-state.yml", ".modules.yaml",
	"pyvenv.cfg", "bin", "lib/python*/site-packages", "ruby/*/gems", "ruby/*/specifications",
}

// installed tells whether dependencies are there, made for the lock file that the snapshot has, and adds to sum what they are.
func (r *Repo) installed(sum hash.Hash, d Dependencies) bool {
	at := r.root
	for part := range strings.SplitSeq(d.Path, "/") {
		at = filepath.Join(at, part)
		if info, err := os.Lstat(at); err != nil || !info.IsDir() {
			return false
		}
	}
	data, err := os.ReadFile(filepath.Join(r.root, d.Lock))
	if err != nil || r.blobID(data) != d.Blob {
		return false
	}
	info, err := os.Lstat(at)
	if err != nil {
		return false
	}
	fmt.Fprintf(sum, "%q %s %d\n", d.Path, d.Blob, info.ModTime().UnixNano())
	for _, m := range markers {
		found, _ := filepath.Glob(filepath.Join(globQuoter.Replace(at), m))
		for _, f := range found {
			if info, err := os.Lstat(f); err == nil {
				fmt.Fprintf(sum, "%q %d\n", f, info.ModTime().UnixNano())
			}
		}
	}
	return true
}

// blobID is the object id that git gives to bytes.
func (r *Repo) blobID(data []byte) string {
	h := sha1.New()
	if r.hashSize() == sha256.Size {
		h = sha256.New()
	}
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}
