package runner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"

	"berth/configs"
	"berth/images"
	"berth/worktree/overlay"
)

// helperTest has directories that a helper is for, in a place with an odd name. These tests say the same to root and to
// others; for root the helper is needless, but not wrong.
type helperTest struct {
	t    testing.TB
	eng  *client.Client
	dirs configs.Dirs
	root string
}

func newHelperTest(t testing.TB) *helperTest {
	t.Helper()
	h := &helperTest{t: t, eng: testEngine(t), dirs: testDirs(t)}
	h.root = filepath.Join(filepath.Dir(h.dirs.State), "a:b,c d\"\\")
	if err := os.Mkdir(h.root, 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

// rootFiles has a container make the layers upper and lower, and sticky.
func (h *helperTest) rootFiles() overlay.Stack {
	h.t.Helper()
	prog, err := buildProg()
	if err != nil {
		h.t.Fatal(err)
	}
	image, err := images.NewResolver(h.eng).Resolve(h.t.Context(), images.Host, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx := h.t.Context()
	c, err := h.eng.ContainerCreate(ctx, &container.Config{
		Image: image.ID, Entrypoint: []string{"/berth/init"}, Cmd: []string{"layers", h.root}, User: "0:0",
		Labels: map[string]string{LabelOwner: StateDir(h.dirs.State).Owner()},
	}, &container.HostConfig{
		NetworkMode: "none", CapAdd: []string{"SYS_ADMIN"},
		Mounts: []mount.Mount{bind(prog, "/berth/init", true), bind(h.root, h.root, false)},
	}, nil, nil, "")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { removeContainer(context.Background(), h.eng, c.ID) })
	ended, failed := h.eng.ContainerWait(ctx, c.ID, container.WaitConditionNextExit)
	if err := h.eng.ContainerStart(ctx, c.ID, container.StartOptions{}); err != nil {
		h.t.Fatal(err)
	}
	select {
	case e := <-ended:
		if e.StatusCode != 0 {
			h.t.Fatalf("making the layers: exit %d", e.StatusCode)
		}
	case err := <-failed:
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { // whatever the test has done with them
		k := h.helper(HelperOptions{Remove: []string{h.root + "/upper", h.root + "/lower", h.root + "/sticky"}})
		if err := k.Remove(context.Background(), h.root+"/upper", h.root+"/lower", h.root+"/sticky"); err != nil {
			h.t.Error(err)
		}
		k.Close()
	})
	return overlay.Stack{h.root + "/upper", h.root + "/lower"}
}

// helper makes one, and checks at the end that it leaves nothing.
func (h *helperTest) helper(o HelperOptions) *Helper {
	o.Dirs, o.Version = h.dirs, "test"
	helper := NewHelper(h.eng, o)
	h.t.Cleanup(func() {
		if err := helper.Close(); err != nil {
			h.t.Error(err)
		}
		if left := h.containers(); len(left) > 0 {
			h.t.Errorf("left: %v", left[0].Names)
		}
	})
	return helper
}

// containers lists the helpers that there are.
func (h *helperTest) containers() []container.Summary {
	h.t.Helper()
	list, err := h.eng.ContainerList(context.Background(), container.ListOptions{All: true, Filters: filters.NewArgs(
		filters.Arg("label", LabelOwner+"="+StateDir(h.dirs.State).Owner()), filters.Arg("name", "berth-helper"))})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func TestHelperSeesWhatOnlyRootSees(t *testing.T) {
	h := newHelperTest(t)
	s := h.rootFiles()
	helper := h.helper(HelperOptions{Read: s})
	var got []string
	tell := func(e overlay.Entry) error {
		got = append(got, string(e.Kind)+" "+e.Path)
		return nil
	}
	if err := helper.Changes(t.Context(), s, 1, tell); err != nil {
		t.Fatal(err)
	}
	want := []string{"gone deleted", "gone emptied", "dir emptied", "dir locked", "dir locked/in", "file locked/in/secret \xff\n",
		"gone old", "dir renamed", "dir renamed/sub", "file renamed/sub/file"}
	if !slices.Equal(got, want) {
		t.Errorf("changes %q\nwant    %q", got, want)
	}
	got = nil
	if err := helper.List(t.Context(), s, "renamed/sub", tell); err != nil || !slices.Equal(got, []string{"dir renamed/sub", "file renamed/sub/file"}) {
		t.Errorf("list: %q, %v", got, err)
	}
	if err := helper.List(t.Context(), s, "old", tell); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("list of what is gone: %v", err)
	}
	read := map[string]string{}
	if err := helper.Read(t.Context(), s, []string{"locked/in/secret \xff\n", "none", "renamed/sub/file", "locked", "untouched"}, func(e overlay.Entry, r io.Reader) error {
		data, err := io.ReadAll(r)
		read[e.Path] = string(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(read) != 3 || read["locked/in/secret \xff\n"] != "of root's" || read["renamed/sub/file"] != "below" {
		t.Errorf("read %q", read)
	}
	if c := h.containers(); len(c) != 1 {
		t.Errorf("%d containers for four requests", len(c))
	}
	if os.Getuid() == 0 {
		compareEntries(t, helper, s)
	}
}

// compareEntries checks that every field of an entry arrives.
func compareEntries(t *testing.T, helper *Helper, s overlay.Stack) {
	t.Helper()
	list := func(list func(context.Context, overlay.Stack, string, func(overlay.Entry) error) error) (all []overlay.Entry) {
		if err := list(t.Context(), s, ".", func(e overlay.Entry) error {
			all = append(all, e)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got, want := list(helper.List), list(overlay.Local{}.List); !slices.Equal(got, want) {
		t.Errorf("from the helper %+v\nwant %+v", got, want)
	}
}

// TestHelperReadsInPieces reads files of all sizes, and not all of each.
func TestHelperReadsInPieces(t *testing.T) {
	h := newHelperTest(t)
	sizes := []int{0, 1, 255 << 10, 256 << 10, 256<<10 + 1, 3 << 20}
	var paths []string
	for _, size := range sizes {
		paths = append(paths, strconv.Itoa(size))
		if err := os.WriteFile(filepath.Join(h.root, strconv.Itoa(size)), bytes.Repeat([]byte("0123456\n"), size/8+1)[:size], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	helper := h.helper(HelperOptions{Read: []string{h.root}})
	for _, share := range []int64{1, 2, 1 << 40} { // all, half, nothing
		read := 0
		if err := helper.Read(t.Context(), overlay.Stack{h.root}, paths, func(e overlay.Entry, r io.Reader) error {
			data, err := io.ReadAll(io.LimitReader(r, e.Size/share))
			if want := bytes.Repeat([]byte("0123456\n"), int(e.Size/8)+1)[:e.Size/share]; !bytes.Equal(data, want) {
				t.Errorf("%s: %d bytes, want %d", e.Path, len(data), len(want))
			}
			read++
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if read != len(sizes) {
			t.Errorf("%d files read, want %d", read, len(sizes))
		}
	}
}

// TestHelperGivenUp ends requests half-way, by an error and by the context, and takes the container away: the next request gets
// another.
func TestHelperGivenUp(t *testing.T) {
	h := newHelperTest(t)
	for i := range 2000 {
		write(t, filepath.Join(h.root, strings.Repeat("n", 100)+strconv.Itoa(i)), "x")
	}
	helper, s := h.helper(HelperOptions{Read: []string{h.root}}), overlay.Stack{h.root}
	enough := errors.New("enough")
	if err := helper.List(t.Context(), s, ".", func(overlay.Entry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v, want that of fn", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := helper.List(ctx, s, ".", func(overlay.Entry) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	count := func() int {
		n := 0
		if err := helper.List(t.Context(), s, ".", func(overlay.Entry) error { n++; return nil }); err != nil {
			t.Log(err)
			return -1
		}
		return n
	}
	if n := count(); n != 2001 {
		t.Errorf("%d entries", n)
	}
	for _, c := range h.containers() {
		if err := removeContainer(t.Context(), h.eng, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(); n != -1 {
		t.Errorf("%d entries without a container", n)
	}
	if n := count(); n != 2001 {
		t.Errorf("%d entries from a new container", n)
	}
	helper.Close()
	if err := helper.List(t.Context(), s, ".", nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestHelperRemoves(t *testing.T) {
	h := newHelperTest(t)
	h.rootFiles()
	dirs := []string{h.root + "/upper", h.root + "/sticky", h.root + "/never"}
	helper := h.helper(HelperOptions{Remove: dirs})
	if os.Getuid() != 0 {
		if err := overlay.Remove(t.Context(), dirs...); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("without the helper: %v", err)
		}
		if err := helper.Remove(t.Context(), h.root+"/lower"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("what it is not for: %v", err)
		}
	}
	if err := helper.Remove(t.Context(), dirs...); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(h.root)
	if err != nil || len(left) != 1 || left[0].Name() != "lower" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestHelperHasNoMoreThanItNeeds looks at the container and at what it can do.
func TestHelperHasNoMoreThanItNeeds(t *testing.T) {
	h := newHelperTest(t)
	helper := h.helper(HelperOptions{Read: []string{h.root}})
	if err := helper.List(t.Context(), overlay.Stack{h.root}, ".", func(overlay.Entry) error { return nil }); err != nil {
		t.Fatal(err)
	}
	c, err := h.eng.ContainerInspect(t.Context(), helper.box.id)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(c.State.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000200004", "CapBnd:\t0000000000200004", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	if !c.HostConfig.ReadonlyRootfs || !c.HostConfig.AutoRemove || c.HostConfig.NetworkMode != "none" || len(c.Mounts) != 2 {
		t.Errorf("%+v", c.HostConfig)
	}
	for _, m := range c.Mounts {
		if m.RW {
			t.Errorf("%s is writable", m.Destination)
		}
	}
	// Another's sweep leaves it alone while it runs.
	if _, err := Sweep(t.Context(), h.dirs, "", func(ctx context.Context) (Engine, error) { return Connect(ctx, os.Getenv) }, true); err != nil {
		t.Fatal(err)
	}
	if len(h.containers()) != 1 {
		t.Error("the sweep removed it")
	}
	outside := filepath.Dir(h.dirs.State)
	if err := helper.List(t.Context(), overlay.Stack{outside}, "state", func(overlay.Entry) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it sees outside: %v", err)
	}
}

// BenchmarkHelper measures the start, a listing of 20,000 entries and a reading of 200 MB.
func BenchmarkHelper(b *testing.B) {
	h := newHelperTest(b)
	s := overlay.Stack{h.root}
	for i := range 200 {
		dir := filepath.Join(h.root, "d"+strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 99 {
			write(b, filepath.Join(dir, "f"+strconv.Itoa(j)), "content\n")
		}
	}
	large := make([]byte, 200<<20)
	if err := os.WriteFile(filepath.Join(h.root, "large"), large, 0o644); err != nil {
		b.Fatal(err)
	}
	none := func(overlay.Entry) error { return nil }
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			helper := NewHelper(h.eng, HelperOptions{Dirs: h.dirs, Read: s})
			begin := time.Now()
			if err := helper.List(b.Context(), s, "large", none); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms/first-answer")
			helper.Close()
		}
	})
	helper := h.helper(HelperOptions{Read: s})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			if err := helper.List(b.Context(), s, ".", none); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(large)))
		for b.Loop() {
			if err := helper.Read(b.Context(), s, []string{"large"}, func(_ overlay.Entry, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
