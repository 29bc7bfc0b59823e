package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/containerd/errdefs"
)

// rootDirs are what a merged-usr system has as links into /usr, and others as directories of programs.
var rootDirs = []string{"bin", "lib", "lib32", "lib64", "libx32", "sbin"}

// nsswitch makes names resolve by files and DNS alone: the host's own choice may need daemons (nscd, sssd, avahi)
// that a container cannot reach.
const nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n" +
	"protocols: files\nservices: files\nethers: files\nrpc: files\n"

// ensureHost makes sure that the engine has the host image, and describes it.
//
// It is loaded rather than imported: an import stamps the time into the image, so two processes that make it at
// once would get two images, of which one loses its name. Everything loaded is fixed, so they get the same one.
func ensureHost(ctx context.Context, eng Engine) (Image, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return Image{}, &PlatformError{Ref: Host, OS: runtime.GOOS, Arch: runtime.GOARCH}
	}
	h, err := newHostImage("/", runtime.GOARCH)
	if err != nil {
		return Image{}, fmt.Errorf("make the host image: %w", err)
	}
	img, err := h.find(ctx, eng)
	if err == nil || !errdefs.IsNotFound(err) {
		return img, err
	}
	resp, err := eng.ImageLoad(ctx, bytes.NewReader(h.archive))
	if err != nil {
		return Image{}, fmt.Errorf("load the host image: %w", err)
	}
	defer resp.Body.Close()
	if err := messages(resp.Body, func(message) {}); err != nil {
		return Image{}, fmt.Errorf("load the host image: %w", err)
	}
	return h.find(ctx, eng)
}

// hostImage is the host image, ready to be loaded.
type hostImage struct {
	name    string // berth/host:<hash>
	layer   string // digest of its only layer
	archive []byte // as of docker save
}

// find describes the image if the engine has it. The name alone proves nothing, since anybody with access to the
// engine can give it to another image, so the files must be ours too.
func (h *hostImage) find(ctx context.Context, eng Engine) (Image, error) {
	got, err := eng.ImageInspect(ctx, h.name)
	if err != nil {
		return Image{}, fmt.Errorf("inspect the host image: %w", err)
	}
	if !slices.Equal(got.RootFS.Layers, []string{h.layer}) {
		return Image{}, fmt.Errorf("inspect the host image: %s has other files: %w", h.name, errdefs.ErrNotFound)
	}
	return Image{Ref: Host, ID: got.ID, Host: true, OS: got.Os, Arch: got.Architecture}, nil
}

// newHostImage builds the image for a machine with the given root directory.
func newHostImage(root, arch string) (*hostImage, error) {
	entries, err := hostFiles(root)
	if err != nil {
		return nil, err
	}
	layer, err := archive(entries)
	if err != nil {
		return nil, err
	}
	diffID := fmt.Sprintf("sha256:%x", sha256.Sum256(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": arch,
		"os":           "linux",
		"created":      "1970-01-01T00:00:00Z",
		"config":       map[string]any{"Labels": map[string]string{"berth.image": "host"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{diffID}},
		"history":      []map[string]string{{"created": "1970-01-01T00:00:00Z", "created_by": "berth"}},
	})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(config)
	name := fmt.Sprintf("berth/host:%x", sum[:6])
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, err
	}
	all, err := archive([]entry{
		{name: "config.json", mode: 0o644, content: string(config)},
		{name: "layer.tar", mode: 0o644, content: string(layer)},
		{name: "manifest.json", mode: 0o644, content: string(manifest)},
	})
	if err != nil {
		return nil, err
	}
	return &hostImage{name: name, layer: diffID, archive: all}, nil
}

// entry is a file of an archive: a link when link is set, a directory when its name ends in a slash.
type entry struct {
	name    string
	mode    int64
	link    string
	content string
}

// hostFiles lists what the image holds: places to mount on, and the links of this machine's root directory.
func hostFiles(root string) ([]entry, error) {
	entries := []entry{
		{name: "berth/", mode: 0o755}, {name: "dev/", mode: 0o755}, {name: "etc/", mode: 0o755},
		{name: "etc/mtab", link: "/proc/mounts"},
		{name: "etc/nsswitch.conf", mode: 0o644, content: nsswitch},
		{name: "etc/os-release", link: "../usr/lib/os-release"},
		{name: "home/", mode: 0o755}, {name: "mnt/", mode: 0o755}, {name: "opt/", mode: 0o755},
		{name: "proc/", mode: 0o555}, {name: "root/", mode: 0o700}, {name: "run/", mode: 0o755},
		{name: "srv/", mode: 0o755}, {name: "sys/", mode: 0o555}, {name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755}, {name: "var/", mode: 0o755}, {name: "var/cache/", mode: 0o755},
		{name: "var/lib/", mode: 0o755}, {name: "var/lock", link: "/run/lock"}, {name: "var/log/", mode: 0o755},
		{name: "var/run", link: "/run"}, {name: "var/tmp/", mode: 0o1777},
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	for _, name := range rootDirs {
		info, err := dir.Lstat(name)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, err
		case info.IsDir():
			entries = append(entries, entry{name: name + "/", mode: 0o755})
		case info.Mode().Type() == os.ModeSymlink:
			link, err := dir.Readlink(name)
			if err != nil {
				return nil, err
			}
			entries = append(entries, entry{name: name, link: link})
		}
	}
	return entries, nil
}

// archive writes a tar stream in which nothing depends on when or by whom it is written.
func archive(entries []entry) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Typeflag: tar.TypeReg, Size: int64(len(e.content))}
		switch {
		case e.link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.link, 0o777
		case e.name[len(e.name)-1] == '/':
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
