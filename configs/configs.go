// Package configs holds what can be set about berth, and what holds when
// nothing is: default values, and the directories that it keeps its own files
// in. It imports nothing else of berth.
package configs

import (
	"errors"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// Values that hold when nothing else is said.
const (
	Grace      = 5 * time.Second    // between SIGTERM and SIGKILL of a kill, a timeout and a session's end
	OwnerGrace = time.Second        // the same when the owner of a session has died
	Lease      = 2 * time.Hour      // how long a session without an owner outlives its last use
	Retention  = 7 * 24 * time.Hour // how long records and logs of ended sessions are kept
	LogLimit   = 256 << 20          // bytes of output kept of one job
	LayerLimit = 20 << 30           // bytes of file states kept for later sessions
	Pids       = 4096               // processes and threads of one job
	ShmSize    = 256 << 20          // bytes of /dev/shm; browsers want more than Docker's 64 MiB
	RunSize    = 64 << 20           // bytes of /run
	Image      = "host"             // the image of a job that names none
)

// Dirs are the directories of berth's own files. Both are absolute, and made
// with mode 0700 when something is first put there.
type Dirs struct {
	State string // sessions: records, logs, sockets; worth keeping for Retention
	Cache string // repositories, toolchain caches, the init binary; can be made again
}

// FindDirs follows the XDG base directory specification:
// $XDG_STATE_HOME/berth and $XDG_CACHE_HOME/berth, by default below
// ~/.local/state and ~/.cache. Relative values of the variables are ignored, as
// the specification wants.
func FindDirs(getenv func(string) string) (Dirs, error) {
	home := getenv("HOME")
	dir := func(variable, fallback string) (string, error) {
		if d := getenv(variable); filepath.IsAbs(d) {
			return filepath.Join(d, "berth"), nil
		}
		if !filepath.IsAbs(home) {
			return "", ErrNoHome
		}
		return filepath.Join(home, fallback, "berth"), nil
	}
	state, err := dir("XDG_STATE_HOME", ".local/state")
	if err != nil {
		return Dirs{}, err
	}
	cache, err := dir("XDG_CACHE_HOME", ".cache")
	if err != nil {
		return Dirs{}, err
	}
	if !utf8.ValidString(state + cache) {
		return Dirs{}, ErrNotUTF8
	}
	return Dirs{State: resolve(state), Cache: resolve(cache)}, nil
}

// ErrNotUTF8 means that the places for berth's files have names that the
// engine's API cannot carry.
var ErrNotUTF8 = errors.New("the path of XDG_STATE_HOME, XDG_CACHE_HOME or HOME is not valid UTF-8")

// ErrNoHome means that there is no place for berth's files.
var ErrNoHome = errors.New("HOME is not set to an absolute path, and XDG_STATE_HOME and XDG_CACHE_HOME are not both set")

// resolve follows the links of as much of path as exists, so that one place
// has one name, whoever asks for it.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	} else if !os.IsNotExist(err) || path == filepath.Dir(path) {
		return path
	}
	return filepath.Join(resolve(filepath.Dir(path)), filepath.Base(path))
}
