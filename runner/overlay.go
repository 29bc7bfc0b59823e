package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/images"
	"berth/runner/control"
	"berth/worktree"
)

// Probed is what is known of an engine's ability to mount overlay file systems of berth's directories.
type Probed struct {
	OK  bool      `json:"ok"`
	Why string    `json:"why,omitempty"` // not, in one line
	At  time.Time `json:"at"`
}

// probeDir begins the names of directories that probes work in.
const probeDir = "probe-"

// probeDoubt is how long a probe that failed is believed: the cause may have been of the moment.
const probeDoubt = 24 * time.Hour

// overlayMount is a volume of the engine's local driver with an overlay file system. Without a name it is an anonymous one, which goes
// with its container.
func overlayMount(name, target, options string, labels map[string]string) mount.Mount {
	return mount.Mount{
		Type: mount.TypeVolume, Source: name, Target: target,
		VolumeOptions: &mount.VolumeOptions{
			NoCopy:       true,
			Labels:       labels,
			DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"type": "overlay", "device": "overlay", "o": options}},
		},
	}
}

// Probe tells whether an engine can give jobs overlay file systems. The answer is remembered for each engine, kernel and place of berth's
// directories; with again it is found anew. An error means that there is no answer.
func Probe(ctx context.Context, eng Engine, dirs configs.Dirs, again bool) (Probed, error) {
	labels := map[string]string{LabelSession: "", LabelOwner: StateDir(dirs.State).Owner()}
	return probe(ctx, eng, images.NewResolver(eng), dirs, labels, again)
}

func probe(ctx context.Context, eng Engine, resolver *images.Resolver, dirs configs.Dirs, labels map[string]string, again bool) (Probed, error) {
	info, err := eng.Info(ctx)
	if err != nil {
		return Probed{}, engineError("ask the engine about itself", err)
	}
	if runtime.GOOS != "linux" || info.OSType != "linux" {
		return Probed{Why: "the engine does not run on this machine's own kernel", At: time.Now()}, nil
	}
	for _, d := range []string{dirs.State, dirs.Cache} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return Probed{}, err
		}
	}
	sum := sha256.New()
	fmt.Fprintln(sum, info.ID, info.ServerVersion, info.KernelVersion, info.Driver, os.Getuid(), device(dirs.State), device(dirs.Cache))
	file := filepath.Join(dirs.Cache, "overlay-"+hex.EncodeToString(sum.Sum(nil)[:8])+".json")
	var known Probed
	if !again && readJSON(file, &known) == nil && (known.OK || time.Since(known.At) < probeDoubt) {
		return known, nil
	}
	uid, gid := os.Getuid(), os.Getgid()
	if IsRootless(info) {
		uid, gid = 0, 0
	}
	why, err := tryOverlay(ctx, eng, resolver, dirs, labels, uid, gid)
	if err != nil {
		return Probed{}, err
	}
	found := Probed{OK: why == "", Why: why, At: time.Now()}
	return found, writeJSON(file, found)
}

// device tells file systems apart.
func device(dir string) string {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Stat(dir, &st) != nil || unix.Statfs(dir, &fs) != nil {
		return ""
	}
	return fmt.Sprintf("%d %x %v", st.Dev, fs.Type, fs.Fsid) // the number alone is used again
}

// tryOverlay runs init over an overlay file system as jobs have it, and returns what is wrong with that.
func tryOverlay(ctx context.Context, eng Engine, resolver *images.Resolver, dirs configs.Dirs, labels map[string]string, uid, gid int) (why string, err error) {
	// Calls that make something are not cancelled with their caller; and what is found is remembered, so it must not be that he left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeDeadline)
	defer cancel()
	image, err := resolver.Resolve(ctx, configs.Image, nil)
	if err != nil {
		return "", err
	}
	init, err := images.InstallInit(filepath.Join(dirs.Cache, "init"), image.Arch)
	if err != nil {
		return "", err
	}
	upper, err := os.MkdirTemp(dirs.State, probeDir)
	if err != nil {
		return "", err
	}
	lower, err := os.MkdirTemp(dirs.Cache, probeDir)
	if err != nil {
		return "", errors.Join(err, os.Remove(upper))
	}
	options, links, err := worktree.ProbeOverlay(lower, upper)
	defer func() {
		made := slices.DeleteFunc([]string{upper, lower, links}, func(d string) bool { return d == "" })
		hands := NewHands(dirs, "", func(context.Context) (Engine, func(), error) { return eng, func() {}, nil })
		hands.session = labels[LabelSession]
		err = errors.Join(err, hands.Remove(context.WithoutCancel(ctx), made...))
	}()
	if err != nil {
		return "", err
	}
	spec := shape{
		image: image, init: init, uid: uid, gid: gid, labels: labels,
		mounts: []mount.Mount{overlayMount("", "/probe", options, labels)},
	}
	config, host, _ := spec.config()
	config.Cmd = []string{"probe", "/probe"}
	config.OpenStdin, config.StdinOnce, config.AttachStdin = false, false, false
	host.NetworkMode = "none"
	id := ulid.Make().String()
	name := "berth-probe-" + id[len(id)-10:]
	created, err := eng.ContainerCreate(ctx, config, host, nil, nil, name)
	if err != nil {
		if !refusedToCreate(err) {
			err = errors.Join(err, removeWhenMade(ctx, eng, name))
		}
		return "", engineError("create the probe", err)
	}
	removed, failed := eng.ContainerWait(ctx, created.ID, container.WaitConditionRemoved)
	if err := eng.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		rerr := removeContainer(ctx, eng, created.ID)
		if ctx.Err() != nil || client.IsErrConnectionFailed(err) || rerr != nil {
			return "", engineError("start the probe", errors.Join(err, rerr))
		}
		return oneLine(err.Error()), nil // the engine's own word on such a mount
	}
	select {
	case r := <-removed:
		return probeFault(r.StatusCode), nil
	case err := <-failed:
		return "", errors.Join(engineError("wait for the probe", err), removeContainer(ctx, eng, created.ID))
	}
}

func probeFault(code int64) string {
	switch code {
	case 0:
		return ""
	case control.ProbeRename:
		return "directories cannot be renamed in it"
	case control.ProbeRemove:
		return "files cannot be removed in it"
	case control.ProbeWrite:
		return "it cannot be written to"
	}
	return fmt.Sprintf("trying it out ended with code %d", code)
}

// doubtOverlay forgets what is known of overlay file systems when one could not be mounted: the next job finds out anew.
func (s *Session) doubtOverlay(err error) {
	var refused *EngineError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "mount") { // engines have no code for it
		return
	}
	s.connecting.Lock()
	defer s.connecting.Unlock()
	s.probed = nil
	known, _ := filepath.Glob(filepath.Join(s.options.Dirs.Cache, "overlay-*.json"))
	for _, f := range known {
		os.Remove(f)
	}
}

// form is how jobs of this session get their files: [worktree.Overlay] where that works.
func (s *Session) form(ctx context.Context) (string, error) {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.probed == nil {
		found, err := probe(ctx, s.engine, s.images, s.options.Dirs, s.labels(Record{}), false)
		if err != nil {
			return "", fmt.Errorf("try out overlay file systems: %w", err)
		}
		s.probed = &found
	}
	if s.probed.OK {
		return worktree.Overlay, nil
	}
	return worktree.Plain, nil
}
