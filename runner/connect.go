package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/client"
)

// pingDeadline bounds the search for an engine: a local one answers in
// milliseconds.
const pingDeadline = 5 * time.Second

// Attempt is one place where an engine was looked for.
type Attempt struct {
	Source string // why there: DOCKER_HOST, a context, ...
	Host   string // as in DOCKER_HOST
	Err    error
}

// NoEngineError says that no engine answered.
type NoEngineError struct{ Tried []Attempt }

func (e *NoEngineError) Error() string {
	tried := make([]string, len(e.Tried))
	for i, a := range e.Tried {
		tried[i] = fmt.Sprintf("%s (%s): %s", a.Host, a.Source, reasonOf(a.Err))
	}
	return "no container engine answers; tried " + strings.Join(tried, "; ")
}

// Denied tells whether an engine is there that the user may not talk to.
func (e *NoEngineError) Denied() bool {
	for _, a := range e.Tried {
		if errors.Is(a.Err, os.ErrPermission) {
			return true
		}
	}
	return false
}

func reasonOf(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %v", pingDeadline)
	}
	return oneLine(err.Error())
}

// RemoteEngineError says that an engine runs on another machine, which cannot
// mount files of this one.
type RemoteEngineError struct{ Attempt }

func (e *RemoteEngineError) Error() string {
	return fmt.Sprintf("the engine at %s (%s) is on another machine and cannot mount this one's files", e.Host, e.Source)
}

// Connect finds an engine: DOCKER_HOST, the docker context in use, the default
// socket, a rootless one, Podman's, in this order. What the user has set is the
// only place looked at. The caller closes the client. The API version is
// negotiated.
//
// Errors: *[NoEngineError], *[RemoteEngineError], *[InvalidError] for a
// setting that is none.
func Connect(ctx context.Context, getenv func(string) string) (*client.Client, error) {
	places, err := enginePlaces(getenv)
	if err != nil {
		return nil, err
	}
	var tried []Attempt
	for _, p := range places {
		if !isLocal(p.Host) {
			return nil, &RemoteEngineError{p}
		}
		c, err := dialEngine(ctx, p.Host, getenv)
		if err == nil {
			return c, nil
		}
		p.Err = err
		tried = append(tried, p)
	}
	return nil, &NoEngineError{tried}
}

// EngineSetting is what the user has set about the engine: a host or a
// context's name, "" for nothing. Sessions with different settings are
// different ones.
func EngineSetting(getenv func(string) string) string {
	if h := getenv("DOCKER_HOST"); h != "" {
		return h
	}
	if name := currentContext(getenv); name != "default" {
		return "context:" + name
	}
	return ""
}

func enginePlaces(getenv func(string) string) ([]Attempt, error) {
	if h := getenv("DOCKER_HOST"); h != "" {
		return []Attempt{{Source: "DOCKER_HOST", Host: h}}, nil
	}
	if name := currentContext(getenv); name != "default" {
		host, err := contextHost(getenv, name)
		if err != nil {
			return nil, &InvalidError{What: "docker context", Value: name, Why: oneLine(err.Error()), Hint: "see: docker context ls"}
		}
		return []Attempt{{Source: "docker context " + name, Host: host}}, nil
	}
	places := []Attempt{{Source: "default", Host: client.DefaultDockerHost}}
	add := func(source, dir, path string) {
		if dir != "" {
			places = append(places, Attempt{Source: source, Host: "unix://" + filepath.Join(dir, path)})
		}
	}
	add("Docker Desktop", getenv("HOME"), ".docker/run/docker.sock")
	add("rootless Docker", getenv("XDG_RUNTIME_DIR"), "docker.sock")
	add("rootless Podman", getenv("XDG_RUNTIME_DIR"), "podman/podman.sock")
	add("Podman", "/run", "podman/podman.sock")
	return places, nil
}

func dialEngine(ctx context.Context, host string, getenv func(string) string) (*client.Client, error) {
	options := []client.Opt{client.WithHost(host), client.WithAPIVersionNegotiation()}
	if dir := getenv("DOCKER_CERT_PATH"); dir != "" && strings.HasPrefix(host, "tcp:") {
		options = append(options, client.WithTLSClientConfig(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")))
	}
	c, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pingDeadline)
	defer cancel()
	// The client hides the system's error behind a text of its own, so a socket
	// is tried by hand first: it makes the difference between "not there" and
	// "not allowed".
	if path, ok := strings.CutPrefix(host, "unix://"); ok {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			c.Close()
			return nil, err
		}
		conn.Close()
	}
	if _, err := c.Ping(ctx); err != nil {
		c.Close()
		return nil, err
	}
	c.NegotiateAPIVersion(ctx)
	return c, nil
}

// isLocal tells whether an engine can mount the files that we see.
func isLocal(host string) bool {
	u, err := url.Parse(host)
	if err != nil {
		return true // let the client say what is wrong with it
	}
	switch u.Scheme {
	case "unix", "npipe", "":
		return true
	case "tcp", "http", "https":
		ip := net.ParseIP(u.Hostname())
		return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	}
	return false
}

// currentContext is the name of the docker context in use. The files of the
// docker command line are read here, which is little, because its library
// for them brings its whole command line along.
func currentContext(getenv func(string) string) string {
	if name := getenv("DOCKER_CONTEXT"); name != "" {
		return name
	}
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	if data, err := os.ReadFile(filepath.Join(dockerConfigDir(getenv), "config.json")); err == nil {
		json.Unmarshal(data, &config) // a broken file has no context, as with docker
	}
	if config.CurrentContext == "" {
		return "default"
	}
	return config.CurrentContext
}

func contextHost(getenv func(string) string, name string) (string, error) {
	sum := sha256.Sum256([]byte(name))
	path := filepath.Join(dockerConfigDir(getenv), "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json")
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := readJSON(path, &meta); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return "", errors.New("there is no such context")
		}
		return "", err
	}
	host := meta.Endpoints["docker"].Host
	if host == "" {
		return "", errors.New("it names no engine")
	}
	return host, nil
}

func dockerConfigDir(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	return filepath.Join(getenv("HOME"), ".docker")
}
