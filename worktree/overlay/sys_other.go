//go:build !linux

package overlay

import "golang.org/x/sys/unix"

const passFlags = dirFlags

func (*walker) isWhiteout(*found) (bool, error) { return false, nil }

func (*walker) attr(*node, string) (string, error) { return "", nil }

// chmod changes the permissions of a directory, and of nothing that a link leads to.
func chmod(dir int, name string, mode uint32) error {
	return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}
