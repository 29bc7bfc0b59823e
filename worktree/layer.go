package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A layer is a directory below layers/ of a repository's cache that is made once and never written again:
//
//	<name>/tree        its files
//	<name>/layer.json  [layerInfo]; there when the layer is complete
//	<name>/lock        held shared by who uses it, exclusively by who makes or removes it; its time is the last use
//
// What a build leaves beside these is its own.
const (
	layersName    = "layers"
	layerTree     = "tree"
	layerInfoName = "layer.json"
)

// layerInfo describes a complete layer.
type layerInfo struct {
	Bytes int64  `json:"bytes"` // on disk, about
	Files int    `json:"files"`
	Tree  string `json:"tree,omitempty"` // of a base: the git tree it shows
}

// lockPoll is how often a lock is tried for that another process has: a wait by the kernel could not be given up.
const lockPoll = 10 * time.Millisecond

// holds are the layers that this process uses. They are held until the store is closed: what has been used once is likely to be
// used again, and one descriptor each is cheap.
type holds struct {
	mu    sync.Mutex
	files map[string]*os.File
}

func (h *holds) has(dir string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.files[dir] != nil
}

// add takes over an open lock file.
func (h *holds) add(dir string, f *os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.files[dir]; old != nil {
		old.Close() // the same lock, or one of a directory that is gone
	}
	if h.files == nil {
		h.files = map[string]*os.File{}
	}
	h.files[dir] = f
}

// Close lets go of the layers in use. No workspace of this store may be in use any more.
func (s *Store) Close() {
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	for _, f := range s.holds.files {
		f.Close()
	}
	clear(s.holds.files)
}

// layer returns the layer called name, for use until the store is closed. One that is not there is made by build, in a
// directory that is empty but for the lock; the others who want it wait, in whatever process they are. A build that fails leaves nothing, and
// the next who waits tries again.
func (r *Repo) layer(ctx context.Context, name string, build func(dir string) (layerInfo, error)) (dir string, err error) {
	dir = filepath.Join(r.cache, layersName, name)
	if r.store.holds.has(dir) && exists(filepath.Join(dir, layerInfoName)) { // else somebody has removed the cache
		now := time.Now()
		_ = os.Chtimes(filepath.Join(dir, "lock"), now, now) // the wrong order of removal is no harm
		return dir, nil
	}
	for {
		f, complete, err := r.lockLayer(ctx, dir)
		if err != nil {
			return "", fmt.Errorf("layer %s: %w", name, err)
		}
		if complete {
			r.store.holds.add(dir, f)
			return dir, nil
		}
		err = r.store.makeLayer(ctx, dir, build)
		f.Close() // to be taken again as shared: a lock cannot be changed without letting go of it
		if err != nil {
			return "", err
		}
	}
}

// lockLayer locks a layer: shared when it is complete, else exclusively. The caller closes the file.
func (r *Repo) lockLayer(ctx context.Context, dir string) (f *os.File, complete bool, err error) {
	path := filepath.Join(dir, "lock")
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, false, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) { // removed between the two
			continue
		}
		if err != nil {
			return nil, false, err
		}
		complete := exists(filepath.Join(dir, layerInfoName))
		how := unix.LOCK_EX
		if complete {
			how = unix.LOCK_SH
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil && sameFile(f, path) && exists(filepath.Join(dir, layerInfoName)) == complete {
			if complete {
				now := time.Now()
				_ = os.Chtimes(path, now, now)
			}
			return f, complete, nil
		}
		f.Close()
		if err != nil && err != unix.EWOULDBLOCK && err != unix.EINTR {
			return nil, false, err
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// sameFile tells whether path is still the open file.
func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

func (s *Store) makeLayer(ctx context.Context, dir string, build func(dir string) (layerInfo, error)) (err error) {
	// What a process that died has left.
	if err := s.emptyLayer(ctx, dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, s.emptyLayer(clean, dir))
		}
	}()
	info, err := build(dir)
	if err != nil {
		return err
	}
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, layerInfoName), string(text))
}

// emptyLayer removes all but the lock. The caller has the lock.
func (s *Store) emptyLayer(ctx context.Context, dir string) error {
	// First what makes it complete: a removal that is cut short leaves no half layer.
	if err := os.Remove(filepath.Join(dir, layerInfoName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := ReleaseWorkspace(filepath.Join(dir, workName)); err != nil { // of a setup that did not come to its end
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			if err := s.remove(ctx, filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func readLayerInfo(dir string) (layerInfo, bool) {
	var info layerInfo
	text := readSmall(filepath.Join(dir, layerInfoName))
	return info, text != "" && json.Unmarshal([]byte(text), &info) == nil
}

// usedLayer is a layer on disk.
type usedLayer struct {
	dir  string
	used time.Time
	info layerInfo

	complete bool
}

// layers lists the complete layers of a repository's cache whose names begin with prefix, last used first.
func layers(cache, prefix string) []usedLayer {
	return slices.DeleteFunc(allLayers(cache, prefix), func(l usedLayer) bool { return !l.complete })
}

// allLayers lists those as well that are being made, or were when their maker died.
func allLayers(cache, prefix string) []usedLayer {
	found, _ := filepath.Glob(filepath.Join(globQuoter.Replace(cache), layersName, prefix+"*"))
	var out []usedLayer
	for _, dir := range found {
		info, ok := readLayerInfo(dir)
		if st, err := os.Stat(filepath.Join(dir, "lock")); err == nil {
			out = append(out, usedLayer{dir, st.ModTime(), info, ok})
		}
	}
	slices.SortFunc(out, func(a, b usedLayer) int { return b.used.Compare(a.used) })
	return out
}

// removeLayer removes a layer unless somebody uses or makes it, and tells whether it did.
func (s *Store) removeLayer(ctx context.Context, dir string) (bool, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.Open(path)
	if err != nil {
		return false, ignoreGone(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil || !sameFile(f, path) {
		return false, nil // in use, or removed by somebody else
	}
	if err := s.emptyLayer(ctx, dir); err != nil {
		return false, err
	}
	if err := os.Remove(path); err != nil {
		return false, ignoreGone(err)
	}
	_ = os.Remove(dir) // unless somebody is about to make it anew
	return true, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Trim removes layers that were never finished, and then others, the longest unused first, until those of all repositories take no more than
// limit bytes. One in use, or being made, is never removed. It returns what it removed.
func (s *Store) Trim(ctx context.Context, limit int64) (removed []string, err error) {
	var all []usedLayer
	var total int64
	repos, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("trim store: %w", err)
	}
	for _, e := range repos {
		for _, l := range allLayers(filepath.Join(s.dir, e.Name()), "") {
			all = append(all, l)
			total += l.info.Bytes
		}
	}
	slices.SortFunc(all, func(a, b usedLayer) int { return a.used.Compare(b.used) })
	var errs []error
	for _, l := range all {
		if total <= limit && l.complete {
			continue
		}
		ok, err := s.removeLayer(ctx, l.dir)
		if err != nil {
			errs = append(errs, err)
		}
		if ok {
			removed = append(removed, l.dir)
			total -= l.info.Bytes
		}
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("trim store: %w", err)
	}
	return removed, nil
}
