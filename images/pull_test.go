package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// registry serves one image, test:v1, of one layer, and counts how often its manifest is read.
func registry(t *testing.T) (host string, manifests *atomic.Int32) {
	noise := make([]byte, 1<<20) // also makes the image unlike that of any other run
	_, _ = rand.Read(noise)
	layer, err := archive([]entry{{name: "noise", mode: 0o644, content: string(noise)}})
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(layer)
	_ = z.Close()
	digest := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{"Env":["A=b"],"User":"7"},"rootfs":{"type":"layers","diff_ids":[%q]}}`,
		runtime.GOARCH, digest(layer))
	const kind = "application/vnd.docker.distribution.manifest.v2+json"
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":%q},
		"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":%d,"digest":%q}]}`,
		kind, len(config), digest(config), zipped.Len(), digest(zipped.Bytes()))
	manifests = new(atomic.Int32)
	files := map[string][]byte{
		"/v2/": []byte("{}"), "/v2/test/manifests/v1": manifest, "/v2/test/manifests/" + digest(manifest): manifest,
		"/v2/test/blobs/" + digest(config): config, "/v2/test/blobs/" + digest(zipped.Bytes()): zipped.Bytes(),
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			manifests.Add(1)
			w.Header().Set("Docker-Content-Digest", digest(manifest))
			w.Header().Set("Content-Type", kind)
		} else if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", kind)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), manifests
}

func TestResolvePullsFromARegistry(t *testing.T) {
	eng := realEngine(t)
	host, manifests := registry(t)
	ref := host + "/test:v1"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		_, _ = eng.ImageRemove(ctx, ref, image.RemoveOptions{})
	})
	var last Progress
	img, err := NewResolver(eng).Resolve(t.Context(), ref, func(p Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if img.ID == "" || !strings.HasPrefix(img.Digest, "sha256:") || img.User != "7" || img.Arch != runtime.GOARCH || !last.Done {
		t.Errorf("got %+v, last progress %+v", img, last)
	}
	before := manifests.Load()
	again, err := NewResolver(eng).Resolve(t.Context(), ref, func(Progress) { t.Error("progress without a pull") })
	if err != nil || again.ID != img.ID || manifests.Load() != before {
		t.Errorf("second time: %+v %v", again, err)
	}
	var missing *NotFoundError
	if _, err := NewResolver(eng).Resolve(t.Context(), host+"/none:v1", nil); !errors.As(err, &missing) || missing.Reason != NoSuchImage {
		t.Errorf("absent image: %v", err)
	}
	if _, err := NewResolver(eng).Resolve(t.Context(), "127.0.0.1:1/none:v1", nil); !errors.As(err, &missing) || missing.Reason != Unreachable {
		t.Errorf("no registry: %v", err)
	}
}

// fake is an engine with one image, there once a pull has ended.
type fake struct {
	Engine
	stream  func(ctx context.Context) io.ReadCloser
	pulls   atomic.Int32
	present atomic.Bool
	arch    string
}

func (f *fake) ImageInspect(context.Context, string, ...client.ImageInspectOption) (image.InspectResponse, error) {
	if !f.present.Load() {
		return image.InspectResponse{}, errdefs.ErrNotFound
	}
	return image.InspectResponse{ID: "sha256:1", Os: "linux", Architecture: f.arch}, nil
}

func (f *fake) ImagePull(ctx context.Context, _ string, _ image.PullOptions) (io.ReadCloser, error) {
	f.pulls.Add(1)
	return f.stream(ctx), nil
}

func TestConcurrentCallsShareAPull(t *testing.T) {
	r, w := io.Pipe()
	eng := &fake{arch: "amd64", stream: func(context.Context) io.ReadCloser { return r }}
	res := NewResolver(eng)
	impatient, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := res.Resolve(impatient, "debian", nil)
		left <- err
	}()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			img, err := res.Resolve(t.Context(), "docker.io/library/debian:latest", nil)
			if err != nil || img.ID != "sha256:1" {
				t.Errorf("got %+v, %v", img, err)
			}
		})
	}
	for waiting := 0; waiting < 5; runtime.Gosched() {
		res.mu.Lock()
		if f := res.flights["docker.io/library/debian:latest"]; f != nil {
			f.mu.Lock()
			waiting = len(f.wakeup)
			f.mu.Unlock()
		}
		res.mu.Unlock()
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller who left: %v", err)
	}
	eng.present.Store(true)
	w.Close()
	wg.Wait()
	if n := eng.pulls.Load(); n != 1 {
		t.Errorf("%d pulls", n)
	}
}

func TestStreamErrorsAndPlatforms(t *testing.T) {
	says := func(s string) func(context.Context) io.ReadCloser {
		return func(context.Context) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	}
	for text, want := range map[string]Reason{
		"manifest unknown": NoSuchImage, "pull access denied for x": NoSuchImage, "unauthorized: no": Unauthorised,
		"dial tcp: lookup x: no such host": Unreachable, "no space left on device": PullFailed,
	} {
		_, err := NewResolver(&fake{stream: says(fmt.Sprintf(`{"status":"x"}{"errorDetail":{"message":%q}}`, text))}).Resolve(t.Context(), "x", nil)
		var missing *NotFoundError
		if !errors.As(err, &missing) || missing.Reason != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	eng := &fake{arch: "s390x"}
	eng.present.Store(true)
	var platform *PlatformError
	if _, err := NewResolver(eng).Resolve(t.Context(), "x", nil); !errors.As(err, &platform) {
		t.Errorf("platform: %v", err)
	}
	var invalid *InvalidRefError
	if _, err := NewResolver(eng).Resolve(t.Context(), "Not Valid", nil); !errors.As(err, &invalid) {
		t.Errorf("reference: %v", err)
	}
}
