package images

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The directory is embedded rather than the binaries by pattern: a pattern without a match does not compile, and in
// a bare clone there are none.
//
//go:embed initbin
var initbin embed.FS

// InstallInit writes the embedded init for an architecture (amd64, arm64) to
// dir/berth-init-<arch>-<hash>, mode 0755, and returns that path. dir is made when missing. A file that is already
// there is left alone, so that concurrent callers and running containers share it.
// Without an init in this build the error is [ErrNoInit].
func InstallInit(dir, arch string) (string, error) { return installInit(initbin, dir, arch) }

func installInit(bins fs.FS, dir, arch string) (path string, err error) {
	bin, err := fs.ReadFile(bins, "initbin/berth-init-linux-"+arch)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return "", fmt.Errorf("init for linux/%s: %w", arch, ErrNoInit)
	}
	if err != nil {
		return "", fmt.Errorf("install init: %w", err)
	}
	hash := sha256.Sum256(bin)
	path = filepath.Join(dir, fmt.Sprintf("berth-init-%s-%x", arch, hash[:6]))
	// Compared whole, which takes a millisecond: this is the first process of every job.
	if info, err := os.Lstat(path); err == nil && info.Mode() == 0o755 {
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, bin) {
			return path, nil
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("install init: %w", err)
	}
	temp, err := os.CreateTemp(dir, ".berth-init-*")
	if err != nil {
		return "", fmt.Errorf("install init: %w", err)
	}
	_, err = temp.Write(bin)
	err = errors.Join(err, temp.Chmod(0o755), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("install init: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return path, nil
}
