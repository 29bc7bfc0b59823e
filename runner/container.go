package runner

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"berth/configs"
	"berth/images"
	"berth/runner/control"
)

// Labels of every container of ours. They are the truth about who owns it.
const (
	LabelSession = "berth.session"
	LabelJob     = "berth.job"
	LabelRepo    = "berth.repo"
	LabelVersion = "berth.version"
	LabelOwner   = "berth.owner"
)

// initPath is where init is in the container.
const initPath = "/berth/init"

// firstPrivatePort is the first of the ports on which init listens for those
// that are published, one for each. It is above the range from which Linux
// takes ports for outgoing connections.
const firstPrivatePort = 61000

// rootCapabilities are left to a job that runs as root, because package
// managers and installers need them. Every other capability is dropped, and
// all of them for other users.
var rootCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "SETFCAP", "KILL"}

// shape is what distinguishes one job's container from another's.
type shape struct {
	name     string
	labels   map[string]string
	image    images.Image
	init     string // path of the init binary on the host
	uid, gid int
	mounts   []mount.Mount
	ports    []PortSpec
	hostname string
	network  string // as in Spec
	limits   Limits
}

// config gives the three parts of a container's configuration. The command is
// in none of them: it travels to init when the container runs.
func (s shape) config() (*container.Config, *container.HostConfig, *network.NetworkingConfig) {
	exposed, bindings := s.publish()
	config := &container.Config{
		Image:        s.image.ID,
		Entrypoint:   []string{initPath},
		Cmd:          []string{},
		Labels:       s.labels,
		User:         fmt.Sprintf("%d:%d", s.uid, s.gid),
		Hostname:     s.hostname,
		WorkingDir:   "/", // init changes to the job's own
		OpenStdin:    true,
		StdinOnce:    true, // the end of our connection is the end of init's input
		AttachStdin:  true,
		AttachStdout: true,
		AttachStderr: true,
		ExposedPorts: exposed,
		Healthcheck:  &container.HealthConfig{Test: []string{"NONE"}}, // the image's is about its own command
		StopSignal:   "SIGTERM",
	}
	pids := cmp.Or(s.limits.Pids, configs.Pids)
	host := &container.HostConfig{
		AutoRemove:   true,
		LogConfig:    container.LogConfig{Type: "none"}, // our log store is the log
		NetworkMode:  s.networkMode(),
		PortBindings: bindings,
		CapDrop:      []string{"ALL"},
		SecurityOpt:  []string{"no-new-privileges"},
		IpcMode:      container.IPCModePrivate,
		ShmSize:      configs.ShmSize,
		Tmpfs:        map[string]string{"/run": fmtSize(configs.RunSize) + ",mode=1777,nosuid,nodev"},
		Mounts:       append([]mount.Mount{bind(s.init, initPath, true)}, s.mounts...),
		Resources: container.Resources{
			NanoCPUs:   int64(s.limits.CPUs * 1e9),
			Memory:     s.limits.Memory,
			MemorySwap: s.limits.Memory, // of both together: no swap
			PidsLimit:  &pids,
			Ulimits:    []*container.Ulimit{{Name: "core", Soft: 0, Hard: 0}},
		},
	}
	if s.uid == 0 {
		host.CapAdd = slices.Clone(rootCapabilities)
	}
	return config, host, nil
}

func (s shape) networkMode() container.NetworkMode {
	if s.network == string(configs.NetworkNone) {
		return "none"
	}
	return networkName
}

// publish maps the ports to be published: TCP from the port on which init
// listens for it, UDP directly.
func (s shape) publish() (nat.PortSet, nat.PortMap) {
	exposed, bindings := nat.PortSet{}, nat.PortMap{}
	for i, p := range s.ports {
		inside := nat.Port(fmt.Sprintf("%d/%s", privatePort(i, p), p.Proto))
		host := ""
		if p.Host != 0 {
			host = strconv.Itoa(p.Host)
		}
		exposed[inside] = struct{}{}
		bindings[inside] = []nat.PortBinding{{HostIP: "127.0.0.1", HostPort: host}}
	}
	return exposed, bindings
}

// privatePort is the port in the container that the engine publishes for the
// i-th port of a job.
func privatePort(i int, p PortSpec) int {
	if p.Proto == "udp" {
		return p.Port
	}
	return firstPrivatePort + i
}

// controlPorts tells init what to forward.
func controlPorts(ports []PortSpec) []control.Port {
	var forwarded []control.Port
	for i, p := range ports {
		if p.Proto == "tcp" {
			forwarded = append(forwarded, control.Port{Port: p.Port, Private: privatePort(i, p)})
		}
	}
	return forwarded
}

// publishedPorts reads from the engine's answer where each port ended up.
func publishedPorts(ports []PortSpec, published nat.PortMap) []Port {
	found := make([]Port, len(ports))
	for i, p := range ports {
		found[i] = Port{Port: p.Port, Proto: p.Proto}
		for _, b := range published[nat.Port(fmt.Sprintf("%d/%s", privatePort(i, p), p.Proto))] {
			if ip, err := netip.ParseAddr(b.HostIP); err == nil && ip.Is4() {
				found[i].Host = b.HostIP + ":" + b.HostPort
			}
		}
	}
	return found
}

func bind(source, target string, readOnly bool) mount.Mount {
	return mount.Mount{
		Type: mount.TypeBind, Source: source, Target: target, ReadOnly: readOnly,
		BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
	}
}

// sortMounts puts parents before their children, whoever asked for them, and
// drops all but the last of several for one target.
func sortMounts(mounts []mount.Mount) []mount.Mount {
	last := map[string]mount.Mount{}
	for _, m := range mounts {
		m.Target = filepath.Clean(m.Target)
		last[m.Target] = m
	}
	sorted := make([]mount.Mount, 0, len(last))
	for _, m := range last {
		sorted = append(sorted, m)
	}
	slices.SortFunc(sorted, func(a, b mount.Mount) int { return strings.Compare(a.Target, b.Target) })
	return sorted
}
