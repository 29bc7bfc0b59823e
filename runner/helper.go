package runner

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/oklog/ulid/v2"

	"berth/configs"
	"berth/images"
	"berth/runner/control"
	"berth/worktree"
	"berth/worktree/overlay"
)

// HelperOptions say what a helper is for.
type HelperOptions struct {
	Dirs    configs.Dirs
	Version string
	Session string   // its ID; "" when there is none
	Read    []string // the layers that it may read: absolute, without symbolic links
	Remove  []string // the directories that it may remove
}

// Helper reads what jobs have written, and removes it, with the eyes and hands of root: in a container without network that has
// only the directories it was made for. A caller who is root needs none: [overlay.Local] is faster.
//
// The container is started by the first request that needs it, and serves all that follow; a request that was given up half-way
// costs it, and the next one gets another. It ends with [Helper.Close], and with this process however that dies. A helper
// may be used by several goroutines; one request is served at a time.
type Helper struct {
	eng     Engine
	options HelperOptions
	images  *images.Resolver

	mu     sync.Mutex
	box    *helperBox // nil when none runs
	closed bool
}

var _ worktree.Reader = (*Helper)(nil)

// NewHelper returns a helper on an engine, which it does not close. The caller closes the helper.
func NewHelper(eng Engine, o HelperOptions) *Helper {
	return &Helper{eng: eng, options: o, images: images.NewResolver(eng)}
}

// Close ends the helper's container and returns when it is gone.
func (h *Helper) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.end()
}

// Changes is [overlay.Stack.Changes].
func (h *Helper) Changes(ctx context.Context, s overlay.Stack, n int, fn func(overlay.Entry) error) error {
	m := layersMessage(control.OpChanges, s).AddInt("n", n)
	return h.ask(ctx, m, func(e overlay.Entry, _ io.Reader) error { return fn(e) })
}

// List is [overlay.Stack.List].
func (h *Helper) List(ctx context.Context, s overlay.Stack, path string, fn func(overlay.Entry) error) error {
	m := layersMessage(control.OpList, s).Add("path", path)
	return h.ask(ctx, m, func(e overlay.Entry, _ io.Reader) error { return fn(e) })
}

// readBatch is how many bytes of paths one request has.
const readBatch = 64 << 10

// Read is [overlay.Local.Read].
func (h *Helper) Read(ctx context.Context, s overlay.Stack, paths []string, fn func(overlay.Entry, io.Reader) error) error {
	for len(paths) > 0 {
		m, size := layersMessage(control.OpRead, s), 0
		for len(paths) > 0 && size < readBatch {
			m = m.Add("path", paths[0])
			size += len(paths[0]) + 1
			paths = paths[1:]
		}
		if err := h.ask(ctx, m, fn); err != nil {
			return err
		}
	}
	return nil
}

// Remove is [overlay.Remove]. What this process may remove itself it does; the container is for the rest.
func (h *Helper) Remove(ctx context.Context, dirs ...string) error {
	err := overlay.Remove(ctx, dirs...)
	if !errors.Is(err, fs.ErrPermission) || os.Getuid() == 0 {
		return err
	}
	m := control.Message{Op: control.OpEmpty}
	for _, dir := range dirs {
		if !slices.Contains(h.options.Remove, dir) {
			return fmt.Errorf("remove %s: not among the helper's directories: %w", dir, fs.ErrPermission)
		}
		if _, err := os.Lstat(dir); err == nil {
			m = m.Add("dir", dir)
		}
	}
	err = h.ask(ctx, m, func(overlay.Entry, io.Reader) error { return control.ErrMalformed })
	return errors.Join(err, overlay.Remove(ctx, dirs...))
}

func layersMessage(op string, s overlay.Stack) control.Message {
	m := control.Message{Op: op}
	for _, layer := range s {
		m = m.Add("layer", layer)
	}
	return m
}

// ask sends a request and hands out the answer. The helper's container is of no use any more when the answer was not read to
// its end.
func (h *Helper) ask(ctx context.Context, m control.Message, each func(overlay.Entry, io.Reader) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.closed {
		return fmt.Errorf("ask the helper: %w", fs.ErrClosed)
	}
	if h.box == nil {
		if err := h.start(ctx); err != nil {
			return err
		}
	}
	b := h.box
	stop := context.AfterFunc(ctx, b.attachment.close)
	done, err := b.exchange(m, each)
	if !stop() || !done {
		err = errors.Join(err, h.end())
	}
	if ctx.Err() != nil && !done {
		return ctx.Err()
	}
	return err
}

// helperBox is a helper's running container.
type helperBox struct {
	id         string
	attachment *attachment
	out        *bufio.Reader
	pipe       *io.PipeReader
	complaint  bytes.Buffer // what it said on stderr
	reading    sync.WaitGroup
	cancel     context.CancelFunc // of the registration for its removal
	removal    <-chan removal
}

// exchange tells whether the answer was read to its end, so that the next request can follow.
func (b *helperBox) exchange(m control.Message, each func(overlay.Entry, io.Reader) error) (done bool, err error) {
	if err := b.attachment.send(m); err != nil {
		return false, err
	}
	for {
		answer, err := b.line()
		if err != nil {
			return false, err
		}
		if answer.Op == control.OpDone {
			return true, control.ParseDone(answer)
		}
		e, err := control.ParseEntry(answer)
		if err != nil {
			return false, err
		}
		if m.Op != control.OpRead {
			if err := each(e, nil); err != nil {
				return false, err
			}
			continue
		}
		content := &helperContent{b: b}
		if err := each(e, content); err != nil {
			return false, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil && err != io.ErrUnexpectedEOF {
			return false, err
		}
	}
}

func (b *helperBox) line() (control.Message, error) {
	line, err := b.out.ReadBytes('\n')
	if err == io.EOF { // after which nobody writes the complaint
		err = fmt.Errorf("the helper has ended: %.200s", oneLine(b.complaint.String()))
	}
	if err != nil {
		return control.Message{}, engineError("read from the helper", err)
	}
	return control.Parse(line)
}

// helperContent reads the content of the file whose entry came last.
type helperContent struct {
	b    *helperBox
	left int   // bytes of the current chunk
	err  error // that ended it
}

func (c *helperContent) Read(p []byte) (int, error) {
	for c.left == 0 && c.err == nil {
		m, err := c.b.line()
		switch {
		case err != nil:
			c.err = err
		case m.Op == control.OpChunk:
			c.left = m.Int("size")
		case m.Op == control.OpEnd && m.Int("short") == 0:
			c.err = io.EOF
		case m.Op == control.OpEnd:
			c.err = io.ErrUnexpectedEOF
		case m.Op == control.OpDone: // it could not read on
			if c.err = control.ParseDone(m); c.err == nil {
				c.err = control.ErrMalformed
			}
		default:
			c.err = control.ErrMalformed
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.b.out.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil {
		c.err = engineError("read from the helper", err)
	}
	return n, c.err
}

// start runs a container. On error it leaves none.
func (h *Helper) start(ctx context.Context) (err error) {
	image, err := h.images.Resolve(ctx, images.Host, nil)
	if err != nil {
		return err
	}
	init, err := images.InstallInit(filepath.Join(h.options.Dirs.Cache, "init"), image.Arch)
	if err != nil {
		return err
	}
	// Calls that make something are not cancelled with their caller; see job.start.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeDeadline)
	defer cancel()
	id := ulid.Make().String()
	name := "berth-helper-" + id[len(id)-10:]
	config, host := h.config(image, init)
	created, err := h.eng.ContainerCreate(ctx, config, host, nil, nil, name)
	if err != nil {
		if !refusedToCreate(err) {
			err = errors.Join(err, removeWhenMade(ctx, h.eng, name))
		}
		return engineError("create the helper", err)
	}
	over, cancelWait := context.WithCancel(context.WithoutCancel(ctx))
	b := &helperBox{id: created.ID, cancel: cancelWait}
	defer func() {
		if err != nil {
			cancelWait()
			if b.attachment != nil {
				b.attachment.close()
			}
			err = errors.Join(err, removeContainer(ctx, h.eng, b.id))
			b.reading.Wait()
		}
	}()
	if b.attachment, err = attach(ctx, h.eng, b.id); err != nil {
		return err
	}
	b.removal = watchRemoval(over, h.eng, &b.reading, b.id)
	if err := h.eng.ContainerStart(ctx, b.id, container.StartOptions{}); err != nil {
		return engineError("start the helper", err)
	}
	b.read()
	h.box = b
	return nil
}

// read takes the container's two streams apart, until they end or nobody wants them.
func (b *helperBox) read() {
	in, out := io.Pipe()
	b.pipe, b.out = in, bufio.NewReaderSize(in, 64<<10)
	b.reading.Go(func() {
		_, err := stdcopy.StdCopy(out, &b.complaint, b.attachment.conn.Reader)
		out.CloseWithError(err)
	})
}

// end ends the container, if one runs, and waits until it is gone.
func (h *Helper) end() error {
	b := h.box
	if b == nil {
		return nil
	}
	h.box = nil
	b.pipe.Close()
	b.attachment.closeInput()
	defer b.reading.Wait()
	defer b.cancel()
	defer b.attachment.close()
	ctx, cancel := context.WithTimeout(context.Background(), removalDeadline)
	defer cancel()
	select {
	case r := <-b.removal:
		if r.err == nil {
			return nil
		}
	case <-ctx.Done():
	}
	return removeContainer(context.Background(), h.eng, b.id)
}

// config gives the container's shape. Of the capabilities, SYS_ADMIN is what trusted attributes are read with.
func (h *Helper) config(image images.Image, init string) (*container.Config, *container.HostConfig) {
	caps := []string{"DAC_READ_SEARCH", "SYS_ADMIN"}
	mounts := []mount.Mount{bind(init, initPath, true)}
	add := func(dirs []string, readOnly bool) {
		for _, dir := range dirs {
			if _, err := os.Lstat(dir); err == nil { // the engine would refuse to mount what is not there
				mounts = append(mounts, bind(dir, dir, readOnly))
			}
		}
	}
	add(h.options.Read, true)
	if len(h.options.Remove) > 0 {
		caps = append(caps, "DAC_OVERRIDE", "FOWNER")
		add(h.options.Remove, false)
	}
	pids := int64(configs.Pids)
	return &container.Config{
			Image:      image.ID,
			Entrypoint: []string{initPath},
			Cmd:        []string{"helper"},
			Labels: map[string]string{
				LabelSession: h.options.Session,
				LabelVersion: h.options.Version,
				LabelOwner:   StateDir(h.options.Dirs.State).Owner(),
			},
			User:            "0:0",
			WorkingDir:      "/",
			OpenStdin:       true,
			StdinOnce:       true,
			AttachStdin:     true,
			AttachStdout:    true,
			AttachStderr:    true,
			NetworkDisabled: true,
			Healthcheck:     &container.HealthConfig{Test: []string{"NONE"}},
		}, &container.HostConfig{
			AutoRemove:     true,
			LogConfig:      container.LogConfig{Type: "none"},
			NetworkMode:    "none",
			CapDrop:        []string{"ALL"},
			CapAdd:         caps,
			SecurityOpt:    []string{"no-new-privileges"},
			ReadonlyRootfs: true,
			IpcMode:        container.IPCModeNone,
			Mounts:         sortMounts(mounts),
			Resources: container.Resources{
				PidsLimit: &pids,
				Ulimits:   []*container.Ulimit{{Name: "core", Soft: 0, Hard: 0}},
			},
		}
}
