package runner

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"

	"berth/images"
)

// mounts makes everything that the job's container mounts, and the environment
// of its command.
func (j *job) mounts(ctx context.Context) ([]mount.Mount, []string, error) {
	s := j.session
	dir := func(name string) string { return filepath.Join(j.record.Dirname, name) }
	var mounts []mount.Mount

	// A home directory and /tmp of the job's own, writable whoever the user is.
	for name, target := range map[string]string{homeDir: s.home, tmpDir: "/tmp"} {
		if err := os.Mkdir(dir(name), 0o700); err != nil {
			return nil, nil, err
		}
		mounts = append(mounts, bind(dir(name), target, false))
	}
	if err := os.Chmod(dir(tmpDir), 0o777|os.ModeSticky); err != nil {
		return nil, nil, err
	}

	if j.image.Host {
		host, err := images.HostMounts(s.home, j.spec.Caller)
		if err != nil {
			return nil, nil, err
		}
		for _, m := range host {
			mounts = append(mounts, bind(m.Source, m.Target, m.ReadOnly))
		}
		cover, err := s.cover(host, dir(etcDir))
		if err != nil {
			return nil, nil, err
		}
		mounts = append(mounts, cover...)
		etc, err := j.userFiles(dir(etcDir))
		if err != nil {
			return nil, nil, err
		}
		mounts = append(mounts, etc...)
	}
	caches, err := j.caches()
	if err != nil {
		return nil, nil, err
	}
	mounts = append(mounts, caches...)

	work, err := j.workspace(ctx)
	if err != nil {
		return nil, nil, err
	}
	mounts = append(mounts, work...)
	mounts = sortMounts(mounts)
	if err := j.makeMountPoints(mounts); err != nil {
		return nil, nil, err
	}
	return mounts, j.environment(), nil
}

// cover hides berth's own directories where one of the host's mounts would show
// them: a socket can be used through a read-only mount.
func (s *Session) cover(host []images.Mount, dir string) ([]mount.Mount, error) {
	empty := filepath.Join(dir, "empty")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		return nil, err
	}
	var mounts []mount.Mount
	for _, own := range []string{s.options.Dirs.State, s.options.Dirs.Cache} {
		if slices.ContainsFunc(host, func(m images.Mount) bool { return strings.HasPrefix(own, m.Source+"/") && m.Source == m.Target }) {
			mounts = append(mounts, bind(empty, own, true))
		}
	}
	return mounts, nil
}

// userFiles writes /etc/passwd and /etc/group with the job's user in them.
func (j *job) userFiles(dir string) ([]mount.Mount, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	passwd, group := images.Passwd(j.uid(), j.gid(), j.user(), j.session.home)
	var mounts []mount.Mount
	for name, data := range map[string][]byte{"passwd": passwd, "group": group} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return nil, err
		}
		mounts = append(mounts, bind(path, "/etc/"+name, true))
	}
	return mounts, nil
}

// makeMountPoints makes, in the directories that belong to the job, what other
// mounts are to be put on. The engine would make them as root.
func (j *job) makeMountPoints(mounts []mount.Mount) error {
	for i, m := range mounts {
		parent := -1 // the innermost mount around m; parents come first
		for k := range i {
			if strings.HasPrefix(m.Target, mounts[k].Target+"/") {
				parent = k
			}
		}
		if parent < 0 || mounts[parent].Type == mount.TypeVolume || !j.owns(mounts[parent].Source) {
			continue
		}
		rest := strings.TrimPrefix(m.Target, mounts[parent].Target+"/")
		if err := makeMountPoint(mounts[parent].Source, rest, m); err != nil {
			return err
		}
	}
	return nil
}

// owns tells whether a directory is one of the job's, or a cache: a toolchain
// may be mounted below one.
func (j *job) owns(dir string) bool {
	return strings.HasPrefix(dir, j.record.Dirname+"/") ||
		j.files.repo != nil && strings.HasPrefix(dir, filepath.Join(j.files.repo.CacheDir(), cachesDir)+"/")
}

// makeMountPoint makes path within dir, whatever links a snapshot has put
// there: a directory or a file, like what is mounted.
func makeMountPoint(dir, path string, m mount.Mount) error {
	isDir := m.Type == mount.TypeVolume
	if !isDir {
		info, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		isDir = info.IsDir()
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if isDir {
		return root.MkdirAll(path, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// environment is the whole environment of the command: the image's, then the
// little that is taken from the caller, then what names the user, then what
// was asked for. Later entries win.
func (j *job) environment() []string {
	s := j.session
	env := []string{"PATH=" + images.DefaultPath}
	env = append(env, j.image.Env...)
	if j.image.Host {
		env = append(env, images.HostEnv(j.spec.Caller)...)
	} else {
		env = append(env, images.Env(j.spec.Caller)...)
	}
	env = append(env,
		"HOME="+s.home,
		"USER="+j.user(),
		"LOGNAME="+j.user(),
		"HOSTNAME="+j.record.Handle,
		"PWD="+j.record.Dir,
		"BERTH_JOB="+j.record.ID,
	)
	if j.uid() != j.session.uid { // git would refuse files that are not its user's
		env = append(env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	}
	return lastOfEach(append(env, j.spec.Env...))
}

// uid, gid and user are whom the command runs as.
func (j *job) uid() int {
	if j.spec.Root {
		return 0
	}
	return j.session.uid
}

func (j *job) gid() int {
	if j.spec.Root {
		return 0
	}
	return j.session.gid
}

func (j *job) user() string {
	if j.spec.Root {
		return "root"
	}
	return j.session.user
}

// lastOfEach keeps the last entry of each key, in order.
func lastOfEach(env []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, e := range slices.Backward(env) {
		key, _, _ := strings.Cut(e, "=")
		if !seen[key] {
			seen[key] = true
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept
}

// jobHome is the path of the job's own home directory: the user's, unless that
// is none on which a directory may be mounted.
func jobHome(home, user string) string {
	home = filepath.Clean(home)
	usable := filepath.IsAbs(home) && home != "/"
	for _, system := range []string{"/usr", "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/proc", "/sys", "/dev", "/run", "/tmp", "/berth"} {
		usable = usable && home != system && (system == "/tmp" || system == "/opt" || !strings.HasPrefix(home, system+"/"))
	}
	switch {
	case usable:
		return home
	case user == "root":
		return "/root"
	}
	return "/home/" + user
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "user"
}
