package worktree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestApplyOnAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs a file system of its own")
	}
	u := newUser(t)
	u.write("a", "a")
	u.commit()
	small := t.TempDir()
	check(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { check(t, unix.Unmount(small, 0)) })
	gitIn(t, u.root, "clone", "-q", ".", small+"/r")
	c := user{t, small + "/r"}
	r, err := NewStore(filepath.Join(t.TempDir(), "cache")).Open(t.Context(), c.root)
	check(t, err)
	snap, err := r.Snapshot(t.Context(), "")
	check(t, err)
	j := c.job(r, snap)
	j.run("echo b > a; head -c 3000000 /dev/urandom > z")
	res := j.result(r, snap)
	before := fingerprint(t, c.root)
	if _, err := r.Apply(t.Context(), snap, res); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	after := fingerprint(t, c.root)
	delete(before, c.root)
	delete(after, c.root)
	sameTree(t, after, before)
}

func TestApplyWithoutPermission(t *testing.T) {
	u, r, snap, res := changed(t, func(u user) {
		u.write("a", "a")
		u.write("ro/f", "f")
		u.commit()
	}, "echo job > a; echo job > ro/f; echo job > ro/new")
	dir := filepath.Join(u.root, "ro")
	if os.Getuid() == 0 { // whom only this stops
		if err := setImmutable(dir, true); err != nil {
			t.Skip("no immutable directories here: ", err)
		}
		defer func() { check(t, setImmutable(dir, false)) }()
	} else {
		check(t, os.Chmod(dir, 0o500))
		defer os.Chmod(dir, 0o700)
	}
	before := tree(t, u.root)
	if _, err := r.Apply(t.Context(), snap, res); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	sameTree(t, tree(t, u.root), before)
	left, _ := filepath.Glob(filepath.Join(u.root, ".berth*"))
	if len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// immutable is FS_IMMUTABLE_FL.
const immutable = 0x10

func setImmutable(dir string, on bool) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	flags &^= immutable
	if on {
		flags |= immutable
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
}
