//go:build linux

package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// realTempDir has no symbolic link in its path.
func realTempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func do(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// makeDeep makes a chain of directories deeper than a path can be long, each with a neighbour, and modes of a hostile job's.
func makeDeep(t testing.TB, top string, depth int) {
	t.Helper()
	fd, err := openTop(top)
	do(t, err)
	for range depth {
		do(t, unix.Mkdirat(fd, "d", 0o700), unix.Mkdirat(fd, "z", 0o500))
		below, err := openat(fd, "d", dirFlags)
		do(t, err, chmod(fd, "d", 0o300))
		unix.Close(fd)
		fd = below
	}
	unix.Close(fd)
}

func TestRemove(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, dir, outside string){
		"nothing": func(t *testing.T, dir, _ string) { do(t, os.Remove(dir)) },
		"no parent": func(t *testing.T, dir, _ string) {
			do(t, os.Remove(dir), os.Remove(filepath.Dir(dir)))
		},
		"a file": func(t *testing.T, dir, _ string) { do(t, os.Remove(dir), os.WriteFile(dir, nil, 0o000)) },
		"a link": func(t *testing.T, dir, outside string) { do(t, os.Remove(dir), os.Symlink(outside, dir)) },
		"modes": func(t *testing.T, dir, _ string) {
			do(t, os.MkdirAll(dir+"/a/b/c", 0o755), os.WriteFile(dir+"/a/b/f", nil, 0o000),
				os.Chmod(dir+"/a/b/c", 0), os.Chmod(dir+"/a/b", 0o500), os.Chmod(dir+"/a", 0), os.Chmod(dir, 0))
		},
		"links": func(t *testing.T, dir, outside string) {
			do(t, os.Symlink(outside, dir+"/out"), os.Symlink(outside+"/kept", dir+"/file"), os.Symlink(".", dir+"/loop"),
				os.Link(outside+"/kept", dir+"/hard"), os.Chmod(dir, 0))
		},
		"special": func(t *testing.T, dir, _ string) {
			do(t, unix.Mkfifo(dir+"/fifo", 0), os.Mkdir(dir+"/.berth-remove-1", 0o700), os.WriteFile(dir+"/.berth-remove-2", nil, 0))
			makeDeep(t, dir, 70)
		},
		"deep": func(t *testing.T, dir, _ string) { makeDeep(t, dir, 2200) },
		"wide": func(t *testing.T, dir, _ string) {
			for i := range 1000 {
				do(t, os.WriteFile(filepath.Join(dir, strings.Repeat("n", 200)+strconv.Itoa(i)), nil, 0o600))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, keep := range []bool{false, true} {
				root := realTempDir(t)
				outside, dir := filepath.Join(root, "outside"), filepath.Join(root, "parent", "dir")
				do(t, os.MkdirAll(outside, 0o755), os.WriteFile(outside+"/kept", []byte("x"), 0o640), os.MkdirAll(dir, 0o755))
				make(t, dir, outside)
				_, missing := os.Lstat(dir)
				if keep {
					do(t, Empty(t.Context(), dir))
				} else {
					do(t, Remove(t.Context(), dir))
				}
				info, err := os.Lstat(dir)
				switch {
				case !keep || missing != nil:
					if !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("it is still there: %v", err)
					}
				case err == nil && info.IsDir():
					if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
						t.Errorf("left: %v, %v", left, err)
					}
				}
				if info, err := os.Stat(outside + "/kept"); err != nil || info.Mode() != 0o640 {
					t.Errorf("outside: %v, %v", info, err)
				}
			}
		})
	}
}

func TestRemoveRefuses(t *testing.T) {
	for _, dir := range []string{"", "/", "relative", ".", "//"} {
		if err := Remove(t.Context(), dir); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("remove %q: %v", dir, err)
		}
	}
}

// TestRemoveGoesOn has a directory of root's in its way, which only root can empty, and none when it is empty.
func TestRemoveGoesOn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making files of others needs root")
	}
	dir := realTempDir(t) + "/dir"
	do(t, os.MkdirAll(dir+"/work/work", 0o755), os.Chmod(dir+"/work/work", 0), os.MkdirAll(dir+"/own", 0o755),
		os.MkdirAll(dir+"/foreign/in", 0o755), os.WriteFile(dir+"/own/f", nil, 0o644))
	for _, own := range []string{dir, dir + "/work", dir + "/own", dir + "/own/f"} {
		do(t, os.Chown(own, 12345, 12345))
	}
	for p := dir; p != "/"; p = filepath.Dir(p) { // the test's own directories are not everybody's
		info, err := os.Stat(p)
		do(t, err, os.Chmod(p, info.Mode().Perm()|0o011|info.Mode()&fs.ModeSticky))
	}
	// Only the effective user of this thread changes, and the test's own thread ends with it.
	done := make(chan error)
	go func() {
		done <- asUser(12345, func() error { return Remove(t.Context(), dir) })
	}()
	err := <-done
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want one of permissions", err)
	}
	if left, _ := filepath.Glob(dir + "/*/*"); len(left) != 1 || left[0] != dir+"/foreign/in" {
		t.Errorf("left: %v", left)
	}
}
