package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"berth/images"
)

// Engine is what this package calls of the Docker client.
type Engine interface {
	images.Engine
	ContainerCreate(ctx context.Context, config *container.Config, host *container.HostConfig, net *network.NetworkingConfig, platform *ocispec.Platform, name string) (container.CreateResponse, error)
	ContainerAttach(ctx context.Context, id string, o container.AttachOptions) (types.HijackedResponse, error)
	ContainerWait(ctx context.Context, id string, condition container.WaitCondition) (<-chan container.WaitResponse, <-chan error)
	ContainerStart(ctx context.Context, id string, o container.StartOptions) error
	ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error)
	ContainerRemove(ctx context.Context, id string, o container.RemoveOptions) error
	ContainerList(ctx context.Context, o container.ListOptions) ([]container.Summary, error)
	ContainerExecCreate(ctx context.Context, id string, o container.ExecOptions) (container.ExecCreateResponse, error)
	ContainerExecAttach(ctx context.Context, exec string, o container.ExecAttachOptions) (types.HijackedResponse, error)
	ContainerExecInspect(ctx context.Context, exec string) (container.ExecInspect, error)
	ContainerExecResize(ctx context.Context, exec string, o container.ResizeOptions) error
	VolumeList(ctx context.Context, o volume.ListOptions) (volume.ListResponse, error)
	VolumeRemove(ctx context.Context, name string, force bool) error
	NetworkInspect(ctx context.Context, id string, o network.InspectOptions) (network.Inspect, error)
	NetworkCreate(ctx context.Context, name string, o network.CreateOptions) (network.CreateResponse, error)
	Info(ctx context.Context) (system.Info, error)
	ClientVersion() string
	DaemonHost() string
	Close() error
}

var _ Engine = (*client.Client)(nil)

// Deadlines of engine calls. Those that make something may meet a busy disk;
// the others hang only when something is wrong.
const (
	makeDeadline = 2 * time.Minute
	callDeadline = 20 * time.Second
	// appearDeadline is how long a container may take to appear whose creation
	// was not answered.
	appearDeadline = 5 * time.Second
	// removeRetry is how often a removal is tried again that the engine
	// refused because one is in progress.
	removeRetry = 50 * time.Millisecond
)

// EngineError is a call that the engine refused or did not answer.
type EngineError struct {
	Op  string // what was tried, such as "create container"
	Err error
}

func (e *EngineError) Error() string {
	return e.Op + ": " + strings.TrimPrefix(oneLine(e.Err.Error()), "Error response from daemon: ")
}
func (e *EngineError) Unwrap() error { return e.Err }

func engineError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &EngineError{Op: op, Err: err}
}

// oneLine folds a text into one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// isPortTaken goes by the text: the engine has no code for it.
func isPortTaken(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "port is already allocated") || strings.Contains(text, "address already in use")
}

// removeContainer removes a container, running or not, with its anonymous
// volumes, and returns when it is gone. One that is not there is gone. A
// removal by somebody else that is under way is waited for, other faults get
// a second and a third chance.
func removeContainer(ctx context.Context, eng Engine, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callDeadline)
	defer cancel()
	retry := time.NewTicker(removeRetry)
	defer retry.Stop()
	for faults := 0; ; {
		err := eng.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil || errdefs.IsNotFound(err):
			return nil
		case !errdefs.IsConflict(err):
			if faults++; faults == 3 {
				return engineError("remove container", err)
			}
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return engineError("remove container", errors.Join(err, ctx.Err()))
		}
	}
}

// removeWhenMade removes a container whose creation got no answer: the engine
// may be about to make it. It is given up when it does not appear for a while,
// which makes the end of a rare fault slow and nothing else.
func removeWhenMade(ctx context.Context, eng Engine, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appearDeadline)
	defer cancel()
	for {
		switch _, err := eng.ContainerInspect(ctx, name); {
		case err == nil:
			return removeContainer(ctx, eng, name)
		case !errdefs.IsNotFound(err):
			return nil // the engine is gone; what it made the sweep finds
		}
		select {
		case <-time.After(removeRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

// networkName is the bridge that all jobs share. Containers on it do not see
// each other. One for all, because Docker's default address pools hold about
// thirty networks.
const networkName = "berth"

// ensureNetwork makes the network when it is missing.
func ensureNetwork(ctx context.Context, eng Engine) error {
	ctx, cancel := context.WithTimeout(ctx, makeDeadline)
	defer cancel()
	_, err := eng.NetworkInspect(ctx, networkName, network.InspectOptions{})
	if err == nil || !errdefs.IsNotFound(err) {
		return engineError("inspect network", err)
	}
	options := map[string]string{"com.docker.network.bridge.enable_icc": "false"}
	// The daemon's "mtu" setting holds for its default bridge alone.
	const mtu = "com.docker.network.driver.mtu"
	if bridge, err := eng.NetworkInspect(ctx, "bridge", network.InspectOptions{}); err == nil && bridge.Options[mtu] != "" {
		options[mtu] = bridge.Options[mtu]
	}
	_, err = eng.NetworkCreate(ctx, networkName, network.CreateOptions{
		Driver:  "bridge",
		Options: options,
		Labels:  map[string]string{"berth.network": "jobs"},
	})
	if err != nil && !errdefs.IsConflict(err) && !errdefs.IsAlreadyExists(err) {
		return engineError("create network", err)
	}
	return nil
}

// IsRootless tells whether the engine runs as the calling user, whose files
// then belong to root within containers.
func IsRootless(info system.Info) bool {
	for _, o := range info.SecurityOptions {
		if strings.Contains(o, "name=rootless") {
			return true
		}
	}
	return false
}

func fmtSize(n int64) string { return fmt.Sprintf("size=%d", n) }
