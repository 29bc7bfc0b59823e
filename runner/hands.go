package runner

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"berth/configs"
	"berth/worktree"
	"berth/worktree/overlay"
)

// Hands read and remove what jobs have written, for a caller who may not be root: what he may not do himself, a helper container does.
type Hands struct {
	dirs    configs.Dirs
	version string
	session string
	connect func(context.Context) (eng Engine, release func(), err error)
}

// NewHands returns hands that connect with an engine when they need one, and call release when they no longer do.
func NewHands(dirs configs.Dirs, version string, connect func(context.Context) (eng Engine, release func(), err error)) *Hands {
	return &Hands{dirs: dirs, version: version, connect: connect}
}

// Remove is [overlay.Remove]. It is a [worktree.Remover].
func (h *Hands) Remove(ctx context.Context, dirs ...string) error {
	err := overlay.Remove(ctx, dirs...)
	if !errors.Is(err, fs.ErrPermission) || os.Geteuid() == 0 {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(dirs), func(d string) bool {
		_, err := os.Lstat(d)
		return errors.Is(err, fs.ErrNotExist)
	})
	eng, release, cerr := h.connect(ctx)
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	defer release()
	helper := NewHelper(eng, HelperOptions{Dirs: h.dirs, Version: h.version, Session: h.session, Remove: left})
	return errors.Join(helper.Remove(ctx, left...), helper.Close())
}

// Reader reads layers, which are all that it may read. The caller closes it.
func (h *Hands) Reader(layers ...string) *HandReader { return &HandReader{hands: h, layers: layers} }

// HandReader is a [worktree.Reader]. It begins with the eyes of this process, and takes a helper when those do not see all.
type HandReader struct {
	hands  *Hands
	layers []string
	root   bool // the files may be root's, whatever layer they are in

	mu      sync.Mutex
	helper  *Helper
	release func()
}

var _ worktree.Reader = (*HandReader)(nil)

// Close ends the helper, if there is one.
func (r *HandReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.helper == nil {
		return nil
	}
	err := r.helper.Close()
	r.release()
	r.helper = nil
	return err
}

// eyes are those that see all there is in a stack.
func (r *HandReader) eyes(ctx context.Context, s overlay.Stack) (worktree.Reader, error) {
	if os.Geteuid() == 0 || !r.root && !slices.ContainsFunc(s, needsRoot) {
		return overlay.Local{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.helper == nil {
		eng, release, err := r.hands.connect(ctx)
		if err != nil {
			return nil, err
		}
		// Each directory once: several jobs share layers.
		slices.Sort(r.layers)
		r.layers = slices.Compact(r.layers)
		r.helper = NewHelper(eng, HelperOptions{Dirs: r.hands.dirs, Version: r.hands.version, Session: r.hands.session, Read: r.layers})
		r.release = release
	}
	return r.helper, nil
}

// needsRoot tells whether a layer may have what only root sees: directories that a job has made or changed may be noted as renamed or as hiding
// others, and files may be somebody else's.
func needsRoot(layer string) bool {
	if !worktree.WrittenByJob(layer) {
		return false
	}
	entries, err := os.ReadDir(layer)
	return err != nil || len(entries) > 0
}

// Changes is [overlay.Local.Changes].
func (r *HandReader) Changes(ctx context.Context, s overlay.Stack, n int, fn func(overlay.Entry) error) error {
	eyes, err := r.eyes(ctx, s)
	if err != nil {
		return err
	}
	return eyes.Changes(ctx, s, n, fn)
}

// List is [overlay.Local.List].
func (r *HandReader) List(ctx context.Context, s overlay.Stack, path string, fn func(overlay.Entry) error) error {
	eyes, err := r.eyes(ctx, s)
	if err != nil {
		return err
	}
	return eyes.List(ctx, s, path, fn)
}

// Read is [overlay.Local.Read].
func (r *HandReader) Read(ctx context.Context, s overlay.Stack, paths []string, fn func(overlay.Entry, io.Reader) error) error {
	eyes, err := r.eyes(ctx, s)
	if err != nil {
		return err
	}
	return eyes.Read(ctx, s, paths, fn)
}
