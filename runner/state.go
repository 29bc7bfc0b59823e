package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"
)

// Layout of the state directory:
//
//	sessions/<ulid>/session.json   Info
//	sessions/<ulid>/lock           locked by the process that holds the session
//	sessions/<ulid>/ended          there when nothing is left to clean up
//	sessions/<ulid>/sock           the keeper's, unless its path would be too long
//	sessions/<ulid>/jobs/<ulid>/   record.json, log/, and the job's files
//	start.lock, sweep.lock         one starter, one sweeper at a time
const (
	sessionsDir = "sessions"
	sessionFile = "session.json"
	lockFile    = "lock"
	endedFile   = "ended"
	jobsDir     = "jobs"
)

// OwnerKind says what a session ends with.
type OwnerKind string

const (
	OwnerLease    OwnerKind = "lease"    // some time without use
	OwnerProcess  OwnerKind = "process"  // the process that it was made for
	OwnerTerminal OwnerKind = "terminal" // the leader of a terminal's session
)

// Owner is what a session belongs to. It ends when its owner does.
type Owner struct {
	Kind    OwnerKind     `json:"kind"`
	PID     int           `json:"pid,omitempty"`
	Started string        `json:"started,omitempty"` // tells a process from a later one of the same number
	Lease   time.Duration `json:"lease,omitempty"`   // nanoseconds
}

// Info describes a session.
type Info struct {
	ID      string    `json:"id"` // a ULID
	Name    string    `json:"name,omitempty"`
	Key     string    `json:"key"` // what a command looks it up by; see package keeper
	Owner   Owner     `json:"owner"`
	Repo    string    `json:"repo,omitempty"`   // top of the working tree it was begun in
	Engine  string    `json:"engine,omitempty"` // what the user had set about the engine
	Socket  string    `json:"socket,omitempty"` // where its keeper listens
	PID     int       `json:"pid"`              // of the process that holds it
	Version string    `json:"version"`          // of berth
	Created time.Time `json:"created"`
	Dir     string    `json:"-"`
	Live    bool      `json:"live"`           // some process holds it
	Ended   time.Time `json:"ended,omitzero"` // when it was cleaned up

	damaged bool // its description could not be read: the rest is a guess
}

// StateDir is berth's state directory, as of configs.Dirs.
type StateDir string

// Owner identifies this directory on this machine: what carries it in the
// label [LabelOwner] is ours to remove.
func (d StateDir) Owner() string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		name, _ := os.Hostname()
		id = []byte(name)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s", id, os.Getuid(), d))
	return hex.EncodeToString(sum[:8])
}

// Sessions lists what is known of sessions, oldest first. Directories that are
// damaged or being made are left out.
func (d StateDir) Sessions() ([]Info, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), sessionsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var sessions []Info
	for _, e := range entries {
		if info, err := d.Session(e.Name()); err == nil {
			sessions = append(sessions, info)
		}
	}
	return sessions, nil
}

// Session reads one session. An error means that there is nothing to use.
func (d StateDir) Session(id string) (Info, error) {
	if _, err := ulid.ParseStrict(id); err != nil {
		return Info{}, err
	}
	dir := d.sessionDir(id)
	var info Info
	if err := readJSON(filepath.Join(dir, sessionFile), &info); err != nil {
		return Info{}, err
	}
	info.Dir, info.Live = dir, false // what the file says of that is of when it was written
	if st, err := os.Stat(filepath.Join(dir, endedFile)); err == nil {
		info.Ended = st.ModTime()
		return info, nil
	}
	info.Live = isLocked(filepath.Join(dir, lockFile))
	return info, nil
}

func (d StateDir) sessionDir(id string) string {
	return filepath.Join(string(d), sessionsDir, id)
}

// Place fills in where the files of one of the session's jobs are. A record
// that has travelled does not carry that.
func (i Info) Place(r Record) Record {
	r.Dirname = filepath.Join(i.Dir, jobsDir, r.ID)
	return r
}

// Jobs reads the records of a session, oldest first.
func (i Info) Jobs() ([]Record, error) {
	entries, err := os.ReadDir(filepath.Join(i.Dir, jobsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, e := range entries {
		if r, err := loadRecord(filepath.Join(i.Dir, jobsDir, e.Name())); err == nil {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	return records, nil
}

// fileLock is an advisory lock that ends with the process, however it ends.
type fileLock struct{ f *os.File }

// lock takes the lock at path. Without wait it fails with [errLocked] at once
// when somebody has it.
func lock(path string, wait bool) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
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

var errLocked = errors.New("another process holds the lock")

func (l *fileLock) unlock() { l.f.Close() }

// isLocked looks without disturbing: a shared lock for a moment. What cannot be
// looked at counts as locked, since what is not is removed.
func isLocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// LockStart takes the lock under which a session is looked up and, when there
// is none, begun, so that two commands do not begin two.
func (d StateDir) LockStart() (unlock func(), err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	l, err := lock(filepath.Join(string(d), "start.lock"), true)
	if err != nil {
		return nil, err
	}
	return l.unlock, nil
}
