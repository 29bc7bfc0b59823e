package runner

import (
	"context"
	"io"
	"testing"

	"github.com/docker/docker/api/types/container"

	"berth/images"
	"berth/runner/logstore"
)

// The benchmarks come in pairs: what berth does, and what a plain container of
// the same image does through the same API. The ratio within one run is what
// counts.

// BenchmarkTrue is a job from the call to the known exit: snapshot, workspace,
// container, output and all.
func BenchmarkTrue(b *testing.B) {
	h := newHarness(b)
	h.output("true")
	for b.Loop() {
		h.exit(h.start("true"))
	}
}

// BenchmarkTruePlain is `docker run --rm` of the init, which exits at once: no
// files, no output.
func BenchmarkTruePlain(b *testing.B) {
	h := newHarness(b)
	h.output("true")
	for b.Loop() {
		p := newPlain(b, h)
		p.start()
		<-p.removed
	}
}

// BenchmarkOutput is 200 MB from a job into its log.
func BenchmarkOutput(b *testing.B) {
	h := newHarness(b)
	const size = 200 << 20
	b.SetBytes(size)
	for b.Loop() {
		r := h.start("head -c 209715200 /dev/zero")
		h.exit(r)
		if info, err := h.mustLog(r).Stat(); err != nil || info.Size != size {
			b.Fatalf("%d bytes arrived, %v", info.Size, err)
		}
	}
}

// BenchmarkKill is a kill until the container is gone.
func BenchmarkKill(b *testing.B) {
	h := newHarness(b)
	for b.Loop() {
		b.StopTimer()
		r := h.start("echo ready; sleep 600")
		h.until(r, "text:ready")
		b.StartTimer()
		if _, err := h.Kill(context.Background(), KillRequest{Jobs: []string{r.ID}, By: "the benchmark"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKillPlain is `docker rm -f`.
func BenchmarkKillPlain(b *testing.B) {
	h := newHarness(b)
	for b.Loop() {
		b.StopTimer()
		r := h.start("echo ready; sleep 600")
		r = h.until(r, "text:ready")
		b.StartTimer()
		if err := removeContainer(context.Background(), h.eng, r.Container); err != nil {
			b.Fatal(err)
		}
	}
}

func (h *harness) mustLog(r Record) *logstore.Reader {
	h.t.Helper()
	log, err := h.Log(context.Background(), r.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return log
}

// plain is a container as `docker run --rm` makes it.
type plain struct {
	h       *harness
	id      string
	removed <-chan container.WaitResponse
}

func newPlain(b *testing.B, h *harness) *plain {
	ctx := context.Background()
	image, init, err := h.findImage(ctx, images.Host, nil)
	if err != nil {
		b.Fatal(err)
	}
	created, err := h.eng.ContainerCreate(ctx, &container.Config{Image: image.ID, Entrypoint: []string{initPath}, OpenStdin: true, StdinOnce: true},
		&container.HostConfig{AutoRemove: true, Binds: []string{init + ":" + initPath + ":ro"}}, nil, nil, "")
	if err != nil {
		b.Fatal(err)
	}
	p := &plain{h: h, id: created.ID}
	p.removed, _ = h.eng.ContainerWait(ctx, p.id, container.WaitConditionRemoved)
	return p
}

// start attaches with an input that ends at once, upon which init exits.
func (p *plain) start() {
	ctx := context.Background()
	conn, err := p.h.eng.ContainerAttach(ctx, p.id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		p.h.t.Fatal(err)
	}
	defer conn.Close()
	conn.CloseWrite()
	if err := p.h.eng.ContainerStart(ctx, p.id, container.StartOptions{}); err != nil {
		p.h.t.Fatal(err)
	}
	io.Copy(io.Discard, conn.Reader)
}
