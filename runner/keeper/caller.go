// Package keeper lets other processes use a session.
//
// A session lives in one process, its keeper. For the plain command line that
// is a detached process, started on demand by [Caller.Begin]; a server such as
// `berth mcp` and `berth session run` keep theirs themselves. [Serve] offers a
// session on a unix socket, as HTTP with JSON, and [Client] is the other end:
// it meets runner.Service as the session itself does. Logs are not served: they
// are files, which any process of the user reads.
package keeper

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"

	"berth/configs"
	"berth/runner"
)

// Caller is who runs a command: what tells which session the command means.
type Caller struct {
	Dirs    configs.Dirs
	Getenv  func(string) string
	Dir     string // working directory, absolute
	Session string // the value of --session; "" looks at BERTH_SESSION, then around
	Version string // of berth
}

// Current finds the session that a command means, if it has begun: the one
// named, else the controlling terminal's, else the repository's leased one.
// One that is named by ID and has ended is a *runner.EndedError.
func (c Caller) Current(context.Context) (info runner.Info, ok bool, err error) {
	sessions, err := runner.StateDir(c.Dirs.State).Sessions()
	if err != nil {
		return runner.Info{}, false, err
	}
	want, err := c.wanted()
	if err != nil {
		return runner.Info{}, false, err
	}
	for _, s := range slices.Backward(sessions) { // an older one may be about to end
		if want.ID != "" && s.ID == want.ID && !s.Live {
			return s, false, &runner.EndedError{Session: s.ID}
		}
		if s.Live && (s.ID == want.ID || want.ID == "" && s.Key == want.Key) {
			return s, true, nil
		}
	}
	if want.ID != "" {
		return runner.Info{}, false, &runner.EndedError{Session: want.ID}
	}
	return runner.Info{}, false, nil
}

// Begin gives the session that a command means, and starts it when there is
// none. The caller closes the client.
func (c Caller) Begin(ctx context.Context) (*Client, error) {
	if client, err := c.dial(ctx); client != nil || err != nil {
		return client, err
	}
	unlock, err := runner.StateDir(c.Dirs.State).LockStart()
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Somebody may have started it while we waited for the lock.
	if client, err := c.dial(ctx); client != nil || err != nil {
		return client, err
	}
	want, err := c.wanted()
	if err != nil {
		return nil, err
	}
	if want.ID != "" {
		return nil, &runner.EndedError{Session: want.ID}
	}
	info, err := c.spawn(ctx, want)
	if err != nil {
		return nil, err
	}
	return Dial(info), nil
}

// dial connects with a session that is there and not about to end.
func (c Caller) dial(ctx context.Context) (*Client, error) {
	info, ok, err := c.Current(ctx)
	if !ok || err != nil {
		return nil, err
	}
	client := Dial(info)
	call, cancel := context.WithTimeout(ctx, answerDeadline)
	defer cancel()
	if _, err = client.Info(call); err == nil {
		return client, nil
	}
	client.Close()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case call.Err() != nil: // not ours to replace: it holds the session
		return nil, &runner.SilentError{Session: info.ID, PID: info.PID}
	}
	return nil, nil // it ends just now: another one is to be begun
}

// answerDeadline is how long a keeper may take to say that it is there.
const answerDeadline = 5 * time.Second

// Own begins a session that this very process keeps, for as long as it serves
// it with [Serve].
func (c Caller) Own(_ context.Context, owner runner.Owner) (*runner.Session, error) {
	info := c.describe("")
	info.Owner = owner
	return newSession(c.Dirs, info, c.Version, c.Getenv)
}

// wanted describes the session that the caller means.
func (c Caller) wanted() (runner.Info, error) {
	name := c.Session
	if name == "" {
		name = c.Getenv("BERTH_SESSION")
	}
	if id, err := ulid.ParseStrict(name); err == nil {
		return runner.Info{ID: id.String()}, nil
	}
	duration, err := c.lease()
	if err != nil {
		return runner.Info{}, err
	}
	lease := runner.Owner{Kind: runner.OwnerLease, Lease: duration}
	if name != "" {
		if err := runner.CheckName("session name", name); err != nil {
			return runner.Info{}, err
		}
		info := c.describe("name:" + name)
		info.Name, info.Owner = name, lease
		return info, nil
	}
	if leader, started, ok := terminalLeader(); ok {
		info := c.describe("terminal:" + strconv.Itoa(leader) + ":" + started)
		info.Owner = runner.Owner{Kind: runner.OwnerTerminal, PID: leader, Started: started}
		return info, nil
	}
	info := c.describe("repo:" + repoTop(c.Dir))
	info.Owner = lease
	return info, nil
}

// describe fills in what all sessions of this caller have in common. A session
// is bound to one engine and one home directory, so they are part of the key.
func (c Caller) describe(key string) runner.Info {
	engine := runner.EngineSetting(c.Getenv)
	if key != "" {
		key += " " + engine + " " + c.Getenv("HOME")
	}
	return runner.Info{Key: key, Repo: repoTop(c.Dir), Engine: engine}
}

// lease is how long a leased session outlives its last use: BERTH_LEASE, or
// the default.
func (c Caller) lease() (time.Duration, error) {
	text := c.Getenv("BERTH_LEASE")
	if text == "" {
		return configs.Lease, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, &runner.InvalidError{What: "BERTH_LEASE", Value: text, Why: "it is not a duration above zero", Hint: "use 30m or 8h"}
	}
	return d, nil
}

// Repo is what sessions begun by this caller have as Info.Repo.
func (c Caller) Repo() string { return repoTop(c.Dir) }

// repoTop is the nearest directory upwards that looks like the top of a
// working tree, or dir itself. It only names a session; what a repository is,
// package worktree decides.
func repoTop(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for top := dir; ; top = filepath.Dir(top) {
		if _, err := os.Lstat(filepath.Join(top, ".git")); err == nil {
			return top
		}
		if top == filepath.Dir(top) {
			return dir
		}
	}
}
