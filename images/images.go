// Package images answers one question: which image does a job run in, and what does that image need from the
// host?
//
// A [Resolver] turns what the user wrote into an [Image] that the engine has: it looks locally, and pulls what is
// missing while it reports [Progress]. One name is special: [Host] is an empty image that berth makes itself, and
// into which the host's own programs are mounted read-only. A caller that runs a job in it takes
//
//   - the mounts from [HostMounts] and the environment from [HostEnv] (for any other image: no mounts, and [Env]);
//   - /etc/passwd and /etc/group from [Passwd], to be mounted by the caller;
//   - a writable home directory of its own making, mounted at the user's own path.
//
// Every image, host or not, gets berth's init from [InstallInit], mounted at /berth/init.
//
// The package imports nothing of berth's, and prints nothing.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// Host is the name by which users ask for the host image. It hides a repository of the same name on Docker Hub,
// which docker.io/library/host still reaches.
const Host = "host"

// Engine is what this package calls of the Docker client.
type Engine interface {
	ImageInspect(ctx context.Context, ref string, opts ...client.ImageInspectOption) (image.InspectResponse, error)
	ImagePull(ctx context.Context, ref string, opts image.PullOptions) (io.ReadCloser, error)
	ImageLoad(ctx context.Context, archive io.Reader, opts ...client.ImageLoadOption) (image.LoadResponse, error)
}

var _ Engine = (*client.Client)(nil)

// Image is an image that the engine has.
type Image struct {
	Ref    string // as the user wrote it
	ID     string // sha256:..., what containers are created from
	Digest string // digest of its repository (sha256:...), empty when it came from none
	Host   bool   // made by berth; wants HostMounts and HostEnv
	OS     string // always linux
	Arch   string // amd64 or arm64: which init it takes

	// What the image's own configuration says. All empty for the host image.
	Env        []string
	User       string
	WorkingDir string
	Entrypoint []string
	Cmd        []string
}

// Progress is how far a pull has come. The totals grow while the engine still learns of layers, and stay 0 for a
// registry that does not tell sizes.
type Progress struct {
	Ref     string // as given to Resolve
	Status  string // the engine's own word for the last step, such as "Downloading"
	Current int64  // bytes downloaded, over all layers; those the engine already had are not counted
	Total   int64  // bytes to download, over all layers known so far
	Done    bool   // the image is here; sent once, last
}

// Resolver finds images on one engine. It is safe for concurrent use, and needs no closing: a pull ends with the
// last call of Resolve that waits for it.
type Resolver struct {
	eng Engine

	mu      sync.Mutex
	flights map[string]*flight
}

// NewResolver returns a resolver for one engine, which it does not close.
func NewResolver(eng Engine) *Resolver {
	return &Resolver{eng: eng, flights: map[string]*flight{}}
}

// Resolve finds the image that ref names, and pulls it when the engine does not have it; for [Host] it makes it.
// ref is a name with or without tag or digest, or an image ID. Concurrent calls for one reference share one pull.
// A caller whose context ends stops waiting; the pull goes on for the others, and is given up with the last.
//
// progress, which may be nil, is called on the calling goroutine, only while a pull goes on, and never after
// Resolve has returned. A slow progress function misses steps instead of slowing the pull.
//
// Errors: *[InvalidRefError], *[NotFoundError] (the image is not here and could not be pulled), *[PlatformError]
// (it is here, but berth cannot run it), the context's error, or an error of the engine.
func (r *Resolver) Resolve(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	if ref == Host {
		return r.share(ctx, Host, nil, func(ctx context.Context, _ func(Progress)) (Image, error) {
			return ensureHost(ctx, r.eng)
		})
	}
	name, err := parse(ref)
	if err != nil {
		return Image{}, err
	}
	img, err := find(ctx, r.eng, ref, name)
	switch {
	case errdefs.IsInvalidArgument(err): // the engine is stricter about names than the library
		return Image{}, &InvalidRefError{Ref: ref, Cause: errors.New("the engine takes it for no image name")}
	case err == nil || !errdefs.IsNotFound(err):
		return img, err
	}
	// A shared pull may have been begun under another spelling.
	report := progress
	if progress != nil {
		report = func(p Progress) { p.Ref = ref; progress(p) }
	}
	img, err = r.share(ctx, name, report, func(ctx context.Context, report func(Progress)) (Image, error) {
		if err := pull(ctx, r.eng, ref, name, report); err != nil {
			return Image{}, err
		}
		img, err := find(ctx, r.eng, ref, name)
		if err == nil {
			report(Progress{Ref: ref, Status: "Done", Done: true})
		}
		return img, err
	})
	img.Ref = ref
	return img, err
}

// parse checks a reference and writes it in full, so that "debian" and "docker.io/library/debian:latest" share a pull.
// An image ID stays as it is.
func parse(ref string) (string, error) {
	named, err := reference.ParseAnyReference(ref)
	if err != nil {
		return "", &InvalidRefError{Ref: ref, Cause: err}
	}
	if named, ok := named.(reference.Named); ok {
		return reference.TagNameOnly(named).String(), nil
	}
	return named.String(), nil
}

// find describes an image that the engine has. The error of one that it does not have is errdefs.IsNotFound.
func find(ctx context.Context, eng Engine, ref, name string) (Image, error) {
	// As the user wrote it, not in full: it may be the start of an ID.
	got, err := eng.ImageInspect(ctx, ref)
	if err != nil {
		return Image{}, fmt.Errorf("inspect image %q: %w", ref, err)
	}
	img := Image{Ref: ref, ID: got.ID, Digest: repoDigest(name, got.RepoDigests), OS: got.Os, Arch: got.Architecture}
	if img.OS != "linux" || img.Arch != "amd64" && img.Arch != "arm64" {
		return Image{}, &PlatformError{Ref: ref, OS: got.Os, Arch: got.Architecture}
	}
	if c := got.Config; c != nil {
		img.Env, img.User, img.WorkingDir, img.Entrypoint, img.Cmd = c.Env, c.User, c.WorkingDir, c.Entrypoint, c.Cmd
	}
	return img, nil
}

// repoDigest picks the digest under which the repository of name knows the image; one image may have several.
func repoDigest(name string, digests []string) string {
	want, _ := reference.ParseAnyReference(name)
	first := ""
	for _, d := range digests {
		parsed, err := reference.ParseNormalizedNamed(d)
		if err != nil {
			continue
		}
		canonical, ok := parsed.(reference.Canonical)
		if !ok {
			continue
		}
		if named, ok := want.(reference.Named); ok && named.Name() == parsed.Name() {
			return canonical.Digest().String()
		}
		if first == "" {
			first = canonical.Digest().String()
		}
	}
	return first
}
