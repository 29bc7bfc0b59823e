package worktree

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// whiteout makes what hides a path of the layers below: a character device 0/0, which since Linux 5.8 any user may make.
func whiteout(path string) error {
	if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil {
		return &fs.PathError{Op: "make whiteout", Path: path, Err: err}
	}
	return nil
}

// isWhiteout tells what [whiteout] makes. Layers of berth's own hold no other devices.
func isWhiteout(d os.DirEntry) bool { return d.Type()&fs.ModeCharDevice != 0 }

// clone makes an empty file share the contents of another, where the file system can.
func clone(out, in *os.File) error { return unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) }

// statOf is what a git index keeps of a file.
func statOf(info fs.FileInfo) stat {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stat{}
	}
	return stat{
		uint32(st.Ctim.Sec), uint32(st.Ctim.Nsec), uint32(st.Mtim.Sec), uint32(st.Mtim.Nsec),
		uint32(st.Dev), uint32(st.Ino), st.Uid, st.Gid, uint32(st.Size),
	}
}
