package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/mount"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/worktree/overlay"
)

// toolCaches are the caches of tools that jobs of one repository share, and so
// trust each other: where the tool looks for it by default, below the home
// directory, and its name below the repository's cache directory. Each tool
// makes its cache safe for several of its processes at once.
var toolCaches = []struct {
	home, cache string
	file        bool
}{
	{home: "go/pkg/mod", cache: "go-mod"},
	{home: ".cache/go-build", cache: "go-build"},
	// Not all of ~/.npm: what npx keeps beside it does not bear two at once.
	{home: ".npm/_cacache", cache: "npm"},
	{home: ".cache/pip", cache: "pip"},
	// Not all of ~/.cargo, which has configuration and keys. The files are the
	// locks under which cargo changes the two directories.
	{home: ".cargo/registry", cache: "cargo-registry"},
	{home: ".cargo/git", cache: "cargo-git"},
	{home: ".cargo/.package-cache", cache: "cargo-lock", file: true},
	{home: ".cargo/.package-cache-mutate", cache: "cargo-lock-mutate", file: true},
}

// Names in a repository's cache directory. The lock is shared by all jobs that
// have the caches mounted, and held alone by whoever removes them; its time is
// that of the last use.
const (
	cachesDir   = "caches"
	cachesLock  = "caches.lock"
	cachesTrash = "caches-removed-"
)

// caches makes the mounts of the caches. They are the job's until
// [job.releaseCaches].
func (j *job) caches() ([]mount.Mount, error) {
	if j.files.repo == nil || j.spec.NoCaches {
		return nil, nil
	}
	if j.spec.Root && j.session.uid != 0 {
		return nil, nil // its files would be in the way of the user's own jobs
	}
	dir := filepath.Join(j.files.repo.CacheDir(), cachesDir)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	l, err := lockCaches(j.files.repo.CacheDir(), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	j.cachesLock = l
	now := time.Now()
	if err := os.Chtimes(l.f.Name(), now, now); err != nil {
		return nil, err
	}
	var mounts []mount.Mount
	for _, c := range toolCaches {
		source := filepath.Join(dir, c.cache)
		make := makeDir
		if c.file {
			make = makeFile
		}
		if err := make(source); err != nil {
			return nil, err
		}
		mounts = append(mounts, bind(source, filepath.Join(j.session.home, c.home), false))
	}
	return mounts, nil
}

// releaseCaches lets others remove the caches. The container is gone.
func (j *job) releaseCaches() {
	if j.cachesLock != nil {
		j.cachesLock.unlock()
	}
}

func makeDir(path string) error { return os.MkdirAll(path, 0o700) }

func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// lockCaches takes the lock of a repository's caches, how as for flock. A
// removal is short, since all it does under the lock is a rename.
func lockCaches(repo string, how int) (*fileLock, error) {
	f, err := os.OpenFile(filepath.Join(repo, cachesLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			err = errLocked
		}
		return nil, err
	}
	return &fileLock{f}, nil
}

// Cache is one cache of a repository.
type Cache struct {
	Repo string    `json:"repo"` // ID, as of worktree.Repo
	Name string    `json:"name"`
	Size int64     `json:"size"` // bytes on disk
	Used time.Time `json:"used"` // when a job last began to use the caches of the repository
	Dir  string    `json:"dir"`
}

// Caches lists the caches of all repositories, by repository and name. Sizes
// take a walk over all files.
func Caches(ctx context.Context, dirs configs.Dirs) ([]Cache, error) {
	caches := []Cache{}
	repos, err := os.ReadDir(dirs.Cache)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, r := range repos {
		dir := filepath.Join(dirs.Cache, r.Name(), cachesDir)
		entries, _ := os.ReadDir(dir) // none is a repository without caches, or no repository
		var used time.Time
		if info, err := os.Stat(filepath.Join(dirs.Cache, r.Name(), cachesLock)); err == nil {
			used = info.ModTime()
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			c := Cache{Repo: r.Name(), Name: e.Name(), Used: used, Dir: filepath.Join(dir, e.Name())}
			if c.Size, err = diskUsage(ctx, c.Dir); err != nil {
				return nil, err
			}
			caches = append(caches, c)
		}
	}
	return caches, nil
}

// diskUsage is what the files below dir take, each once. What vanishes
// meanwhile, or cannot be looked at, takes nothing.
func diskUsage(ctx context.Context, dir string) (int64, error) {
	var size int64
	seen := map[uint64]bool{} // of files with several names
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && (st.Nlink < 2 || info.IsDir() || !seen[st.Ino]) {
			size += st.Blocks * 512
			seen[st.Ino] = st.Nlink > 1
		}
		return nil
	})
	return size, err
}

// CachesInUseError says that a job has the caches of a repository.
type CachesInUseError struct{ Repo string }

func (e *CachesInUseError) Error() string {
	return fmt.Sprintf("a running job uses the caches of %s", e.Repo)
}

// RemoveCaches removes all caches of a repository, given by its ID. One that
// has none is fine. It waits a moment for jobs that are just ending; where a job
// goes on using them the error is *[CachesInUseError] and
// nothing is removed; a job that begins meanwhile gets empty ones.
func RemoveCaches(ctx context.Context, dirs configs.Dirs, repo string) error {
	dir := filepath.Join(dirs.Cache, repo)
	if repo != filepath.Base(repo) || !isDir(dir) {
		return nil
	}
	l, err := awaitCaches(ctx, dir)
	if errors.Is(err, errLocked) {
		return &CachesInUseError{repo}
	}
	if err != nil {
		return fmt.Errorf("remove caches: %w", err)
	}
	trash, err := os.MkdirTemp(dir, cachesTrash)
	if err == nil {
		if err = os.Rename(filepath.Join(dir, cachesDir), filepath.Join(trash, cachesDir)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	l.unlock()
	errs := []error{err}
	left, _ := filepath.Glob(filepath.Join(dir, cachesTrash+"*")) // an earlier removal may have been cut short
	for _, t := range left {
		errs = append(errs, overlay.Remove(ctx, t))
	}
	return errors.Join(errs...)
}

// cachesPatience is how long a removal waits for a job that has just ended: its
// container is being removed.
const cachesPatience = 2 * time.Second

// awaitCaches takes the lock for itself alone.
func awaitCaches(ctx context.Context, repo string) (*fileLock, error) {
	patience := time.NewTimer(cachesPatience)
	defer patience.Stop()
	tick := time.NewTicker(cachesPatience / 50)
	defer tick.Stop()
	for {
		l, err := lockCaches(repo, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-patience.C:
			return nil, errLocked
		case <-tick.C:
		}
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// CacheRepos lists the repositories that have caches, by ID.
func CacheRepos(dirs configs.Dirs) []string {
	found, _ := filepath.Glob(filepath.Join(dirs.Cache, "*", cachesDir))
	for i, f := range found {
		found[i] = filepath.Base(filepath.Dir(f))
	}
	slices.Sort(found)
	return found
}
