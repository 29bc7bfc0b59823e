package keeper

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	"berth/runner"
)

const (
	// emptyLease is how long a session lasts that never had a job: its first
	// command may have been a mistake.
	emptyLease = 10 * time.Second
	// longestPath is how long the path of a unix socket may be on every system
	// (104 bytes on macOS, 108 on Linux, with the final zero).
	longestPath = 100
)

// socket is where a session is served.
type socket struct {
	net.Listener
	path string
	own  bool // its directory was made for it
}

// listen opens a session's socket and makes the session known.
func listen(session *runner.Session) (*socket, error) {
	s := &socket{path: filepath.Join(session.Dir(), "sock")}
	if len(s.path) > longestPath {
		dir, err := os.MkdirTemp("/tmp", "berth-")
		if err != nil {
			return nil, err
		}
		s.path, s.own = filepath.Join(dir, "sock"), true
	}
	var err error
	if s.Listener, err = net.Listen("unix", s.path); err != nil {
		return nil, err
	}
	if err = os.Chmod(s.path, 0o600); err == nil {
		err = session.Publish(s.path)
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *socket) remove() {
	s.Close()
	os.Remove(s.path)
	if s.own {
		os.Remove(filepath.Dir(s.path))
	}
}

// untilOver returns when the session has ended, and ends it when it is time.
func untilOver(ctx context.Context, session *runner.Session) error {
	info, err := session.Info(ctx)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	died := make(chan struct{})
	if info.Owner.PID != 0 {
		go func() {
			if waitProcess(watching, info.Owner.PID, info.Owner.Started) == nil {
				close(died)
			}
		}()
	}
	for {
		select {
		case <-session.Ended():
			return nil
		case <-died:
			return session.OwnerDied(ctx)
		case <-ctx.Done():
			return session.End(ctx, "a signal to the session's keeper")
		case <-time.After(untilExpiry(session, info.Owner)):
			if untilExpiry(session, info.Owner) <= 0 {
				return session.End(ctx, "the end of the session's lease")
			}
		}
	}
}

// untilExpiry is how long a session may live on if nobody uses it. A session
// with an owner lives as long as that, once it has a job.
func untilExpiry(session *runner.Session, owner runner.Owner) time.Duration {
	idle, empty := session.Idle()
	switch {
	case owner.Kind == runner.OwnerProcess:
		return time.Hour
	case empty:
		return emptyLease - idle
	case owner.Kind == runner.OwnerLease:
		return owner.Lease - idle
	}
	return time.Hour
}
