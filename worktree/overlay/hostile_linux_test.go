package overlay

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// layers makes empty layers 0 (the uppermost) to n-1, and beside them a directory outside that holds a file secret.
func layers(t testing.TB, n int) (s Stack, outside string) {
	t.Helper()
	root := realTempDir(t)
	outside = filepath.Join(root, "outside")
	do(t, os.Mkdir(outside, 0o755), os.WriteFile(outside+"/secret", nil, 0o644))
	for i := range n {
		s = append(s, filepath.Join(root, strconv.Itoa(i)))
		do(t, os.Mkdir(s[i], 0o755))
	}
	return s, outside
}

func setAttr(t testing.TB, path, name, value string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("trusted attributes need root")
	}
	do(t, unix.Lsetxattr(path, name, []byte(value), 0))
}

func redirect(t testing.TB, path, to string) {
	t.Helper()
	do(t, os.MkdirAll(path, 0o755))
	setAttr(t, path, attrRedirect, to)
}

func file(t testing.TB, path string) {
	t.Helper()
	do(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(filepath.Base(path)), 0o644))
}

func paths(t testing.TB, s Stack, path string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []string
	if err := s.List(ctx, path, func(e Entry) error {
		all = append(all, string(e.Kind)+" "+e.Path)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func changed(t testing.TB, s Stack, n int) []string {
	t.Helper()
	var all []string
	if err := s.Changes(t.Context(), n, func(e Entry) error {
		all = append(all, string(e.Kind)+" "+e.Path)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestHostileLayers has what no job should be able to write, and what it is taken for.
func TestHostileLayers(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, s Stack, outside string)
		want string // paths, but for the top
	}{
		{"redirect upwards", func(t *testing.T, s Stack, _ string) { redirect(t, s[0]+"/a", "..") }, "dir a"},
		{"redirect out", func(t *testing.T, s Stack, out string) { redirect(t, s[0]+"/a", "/../"+filepath.Base(out)) }, "dir a"},
		{"redirect to itself", func(t *testing.T, s Stack, _ string) {
			redirect(t, s[0]+"/a", ".")
			file(t, s[1]+"/a/f")
		}, "dir a"},
		{"redirect over slashes", func(t *testing.T, s Stack, _ string) {
			redirect(t, s[0]+"/a", "//b")
			redirect(t, s[0]+"/c", "/b/")
			redirect(t, s[0]+"/d", "b/e")
			redirect(t, s[0]+"/e", "/")
			redirect(t, s[0]+"/f", "b\x00")
			file(t, s[1]+"/b/e/f")
		}, "dir a|dir b|dir b/e|file b/e/f|dir c|dir d|dir e|dir f"},
		{"redirect as long as can be", func(t *testing.T, s Stack, _ string) {
			redirect(t, s[0]+"/a", "/"+strings.Repeat("x/", 2000)+"x")
			redirect(t, s[0]+"/b", strings.Repeat("x", 4000))
		}, "dir a|dir b"},
		{"redirect to a link", func(t *testing.T, s Stack, out string) {
			redirect(t, s[0]+"/a", "link")
			redirect(t, s[0]+"/b", "/link/x")
			do(t, os.Symlink(out, s[1]+"/link"))
		}, "dir a|dir b|link link"},
		{"redirects in a ring", func(t *testing.T, s Stack, _ string) {
			redirect(t, s[0]+"/a", "/b")
			redirect(t, s[0]+"/b", "/a")
			redirect(t, s[1]+"/a", "b")
			redirect(t, s[1]+"/b", "/a")
			file(t, s[2]+"/a/in-a")
			file(t, s[2]+"/b/in-b")
		}, "dir a|file a/in-a|dir b|file b/in-b"},
		{"redirect into its own parent", func(t *testing.T, s Stack, _ string) {
			redirect(t, s[0]+"/a/b", "/a")
			redirect(t, s[1]+"/a/b/b", "/a")
			do(t, os.MkdirAll(s[2]+"/a/b/c", 0o755))
		}, "dir a|dir a/b|dir a/b/b|dir a/b/b/b|dir a/b/b/b/b|dir a/b/b/b/b/c|dir a/b/b/c"},
		{"opaque and redirected", func(t *testing.T, s Stack, _ string) {
			redirect(t, s[0]+"/a", "/b")
			setAttr(t, s[0]+"/a", attrOpaque, "y")
			file(t, s[1]+"/b/f")
		}, "dir a|dir b|file b/f"},
		{"opaque with odd values", func(t *testing.T, s Stack, _ string) {
			for _, v := range []string{"n", "yes", "Y", "x"} {
				file(t, s[0]+"/"+v+"/above")
				setAttr(t, s[0]+"/"+v, attrOpaque, v)
				file(t, s[1]+"/"+v+"/below")
			}
			setAttr(t, s[1], attrOpaque, "y")
			file(t, s[1]+"/file")
			setAttr(t, s[1]+"/file", attrOpaque, "y")
			setAttr(t, s[1]+"/file", attrRedirect, "/n")
		}, "dir Y|file Y/above|file Y/below|file file|dir n|file n/above|file n/below|dir x|file x/above|file x/below|dir yes|file yes/above|file yes/below"},
		{"whiteouts as files", func(t *testing.T, s Stack, _ string) {
			do(t, os.WriteFile(s[0]+"/a", nil, 0o000), os.WriteFile(s[0]+"/b", []byte("b"), 0o644))
			setAttr(t, s[0]+"/a", attrWhiteout, "")
			setAttr(t, s[0]+"/b", attrWhiteout, "")
			file(t, s[1]+"/a/gone")
		}, "file b"},
		{"link where a directory was", func(t *testing.T, s Stack, out string) {
			do(t, os.Symlink(out, s[0]+"/a"), os.Symlink(out, s[1]+"/b"))
			file(t, s[1]+"/a/gone")
			do(t, os.Mkdir(s[0]+"/b", 0o755), os.Mkdir(s[2]+"/b", 0o755))
			file(t, s[2]+"/b/hidden")
		}, "link a|dir b"},
		{"special files", func(t *testing.T, s Stack, out string) {
			do(t, unix.Mkfifo(s[0]+"/fifo", 0o666), unix.Mknod(s[0]+"/null", unix.S_IFCHR|0o666, 1<<8|3),
				unix.Mknod(s[0]+"/disk", unix.S_IFBLK|0o666, 0), unix.Mknod(s[0]+"/sock", unix.S_IFSOCK|0o666, 0),
				os.Link(out+"/secret", s[0]+"/hard"))
		}, "special disk|special fifo|file hard|special null|special sock"},
		{"names", func(t *testing.T, s Stack, _ string) {
			file(t, s[0]+"/"+strings.Repeat("n", 255))
			file(t, s[1]+"/ \n\t\xff\"\\,:;")
			do(t, os.Mkdir(s[0]+"/...", 0))
		}, "file  \n\t\xff\"\\,:;|dir ...|file " + strings.Repeat("n", 255)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if os.Getuid() != 0 && c.name == "special files" {
				t.Skip("making devices needs root")
			}
			s, out := layers(t, 3)
			c.make(t, s, out)
			got := paths(t, s, ".")
			if got := strings.Join(got[1:], "|"); got != c.want {
				t.Errorf("listed %q\nwant   %q", got, c.want)
			}
			kernelAgrees(t, s)
			for n := range 4 { // it comes to an end
				changed(t, s, n)
			}
			for _, p := range got {
				kind, path, _ := strings.Cut(p, " ")
				f, _, err := s.Open(path)
				if (err == nil) != (kind == "file") {
					t.Errorf("open %q: %v", p, err)
				}
				f.Close()
			}
		})
	}
}

// kernelAgrees compares with a mount of the layers, unless the kernel finds fault with them.
func kernelAgrees(t *testing.T, s Stack) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "redirect_dir=follow,metacopy=off,lowerdir="+strings.Join(s, ":")); err != nil {
		t.Log("mount an overlay:", err)
		return
	}
	defer unix.Unmount(dir, 0)
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			_, err = os.Lstat(p)
		}
		return err
	}); err != nil {
		t.Log("the kernel refuses:", err)
		return
	}
	compare(t, "kernel", listed(t, s), walkDir(t, dir))
}

// TestChainOfRenames renames what was renamed, through real mounts.
func TestChainOfRenames(t *testing.T) {
	s, _ := layers(t, 1)
	file(t, s[0]+"/a/b/c/f")
	file(t, s[0]+"/other/g")
	for i, names := range [][2]string{{"/a", "/x"}, {"/x/b", "/b"}, {"/b", "/x/b2"}, {"/x", "/other/y"}, {"/other/y/b2/c", "/a"}, {"/a", "/a2"}, {"/other/y", "/a"}} {
		upper := filepath.Join(filepath.Dir(s[0]), "upper"+strconv.Itoa(i))
		do(t, os.Mkdir(upper, 0o755))
		s = append(Stack{upper}, s...)
		merged, unmount := mount(t, s)
		do(t, os.Rename(merged+names[0], merged+names[1]))
		want := walkDir(t, merged)
		unmount()
		compare(t, "list", listed(t, s), want)
		for n := range len(s) + 1 {
			got, _ := applied(t, s, n)
			got["."] = want["."]
			compare(t, "changes", got, want)
		}
	}
	if got := strings.Join(paths(t, s, "a2"), "|"); got != "dir a2|file a2/f" {
		t.Error(got)
	}
}

// TestChangesPassGitBy has .git as a directory and a file, at the top and below, and among what was renamed.
func TestChangesPassGitBy(t *testing.T) {
	s, _ := layers(t, 2)
	file(t, s[1]+"/old/.git/HEAD")
	file(t, s[0]+"/.git/HEAD")
	file(t, s[0]+"/sub/.git")
	file(t, s[0]+"/new/.git/HEAD")
	redirect(t, s[0]+"/renamed", "/old")
	if got, want := strings.Join(changed(t, s, 1), "|"), "dir .git|dir new|dir new/.git|dir renamed|dir renamed/.git|dir sub|file sub/.git"; got != want {
		t.Errorf("changed %q\nwant    %q", got, want)
	}
	if got := paths(t, s, "."); !slices.Contains(got, "file renamed/.git/HEAD") {
		t.Errorf("listed %q", got)
	}
}

// TestNoLinkAboveALayer has one in the path of the layer, and one in place of it.
func TestNoLinkAboveALayer(t *testing.T) {
	s, out := layers(t, 1)
	parent := filepath.Dir(out)
	do(t, os.Symlink(parent, parent+"/link"), os.Symlink(out, parent+"/top"))
	for _, p := range []string{parent + "/link/outside", parent + "/top", out + "/secret", out + "/none", "relative"} {
		err := append(s, p).List(t.Context(), ".", func(Entry) error { return nil })
		if err == nil {
			t.Errorf("%s is taken for a layer", p)
		}
	}
	if err := (Stack{out}).List(t.Context(), "secret/x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, p := range []string{"../outside/secret", "a/../secret", "./secret", "a//b", "sec\x00ret"} {
		if f, _, err := (Stack{out}).Open(p); err == nil {
			t.Errorf("%q was opened", p)
			f.Close()
		}
	}
}

// TestDeeperThanAPath goes further down than the kernel resolves, with fewer descriptors than levels.
func TestDeeperThanAPath(t *testing.T) {
	const depth = 2200
	s, _ := layers(t, 2)
	makeDeep(t, s[0], depth)
	makeDeep(t, s[1], depth)
	defer func() { do(t, Remove(context.Background(), s...)) }()
	if os.Getuid() != 0 {
		t.Skip("the directories are not readable")
	}
	if got := paths(t, s, "."); len(got) != 2*depth+1 || got[depth] != "dir "+strings.Repeat("d/", depth-1)+"d" {
		t.Errorf("%d entries, want %d", len(got), 2*depth+1)
	}
	if got := changed(t, s, 1); len(got) != 2*depth {
		t.Errorf("%d changes, want %d", len(got), 2*depth)
	}
	if got := paths(t, s, strings.Repeat("d/", depth-1)+"d"); len(got) != 1 {
		t.Errorf("at the bottom: %d entries", len(got))
	}
}

// TestPathLimit has a path that is longer than a walk goes into.
func TestPathLimit(t *testing.T) {
	s, _ := layers(t, 1)
	fd, err := openTop(s[0])
	do(t, err)
	name := strings.Repeat("n", 250)
	levels := MaxPath/251 + 3
	for range levels {
		do(t, unix.Mkdirat(fd, name, 0o700))
		below, err := openat(fd, name, dirFlags)
		do(t, err)
		unix.Close(fd)
		fd = below
	}
	unix.Close(fd)
	got := paths(t, s, ".")
	if last := got[len(got)-1]; !strings.HasPrefix(last, "special ") || len(got) != MaxPath/251+2 {
		t.Errorf("%d entries, the last %.20s", len(got), last)
	}
	do(t, Remove(t.Context(), s...))
}

// TestReadKeepsToTheSize reads files that change meanwhile.
func TestReadKeepsToTheSize(t *testing.T) {
	s, _ := layers(t, 1)
	for _, name := range []string{"grows", "same", "shrinks"} {
		do(t, os.WriteFile(s[0]+"/"+name, []byte("0123456789"), 0o644))
	}
	do(t, unix.Mkfifo(s[0]+"/fifo", 0o644), os.Symlink("same", s[0]+"/link"), os.Mkdir(s[0]+"/dir", 0o755))
	got := ""
	err := Local{}.Read(t.Context(), s, []string{"shrinks", "fifo", "none", "none/at/all", "link", "dir", ".", "grows", "same"}, func(e Entry, r io.Reader) error {
		do(t, os.WriteFile(s[0]+"/grows", []byte("0123456789abc"), 0o644), os.WriteFile(s[0]+"/shrinks", []byte("012"), 0o644))
		data, err := io.ReadAll(r)
		got += e.Path + "=" + string(data)
		if err != nil {
			got += " " + err.Error()
		}
		got += "\n"
		return nil
	})
	if want := "shrinks=012 unexpected EOF\ngrows=0123456789abc\nsame=0123456789\n"; err != nil || got != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
}

// TestLayersThatChangeMeanwhile swaps directories for links to the outside, while they are walked and read.
func TestLayersThatChangeMeanwhile(t *testing.T) {
	s, out := layers(t, 2)
	for _, l := range s {
		for i := range 30 {
			file(t, l+"/d/e/f"+strconv.Itoa(i))
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(s[0]+"/d/e", s[0]+"/d/x")
			os.Symlink(out, s[0]+"/d/e")
			os.Remove(s[0] + "/d/e")
			os.Rename(s[0]+"/d/x", s[0]+"/d/e")
			os.Rename(s[0]+"/d", s[0]+"/y")
			os.Symlink(out, s[0]+"/d")
			os.Remove(s[0] + "/d")
			os.Rename(s[0]+"/y", s[0]+"/d")
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 300 {
		err := s.List(t.Context(), ".", func(e Entry) error {
			if strings.Contains(e.Path, "secret") {
				t.Errorf("found %q", e.Path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if f, _, err := s.Open("d/e/secret"); err == nil {
			t.Error("the secret was opened")
			f.Close()
		}
		if err := s.Changes(t.Context(), 1, func(Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRandomHostileLayers has nothing to compare with: it must come to an end, show nothing of the outside, and Changes must
// lead from what List says of the lower layers to what it says of all.
func TestRandomHostileLayers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BERTH_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Log("BERTH_TEST_SEED =", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	attrs := []string{attrOpaque, attrRedirect, attrRedirect, attrRedirect, attrWhiteout}
	values := []string{"y", "x", "", "a", "b", "..", "../outside", "/../outside", "/a", "/b/a", "/a/b/a", "/", "//", "/a/..", "/link/secret", "link"}
	for range 60 {
		s, out := layers(t, 4)
		for _, l := range s {
			randomChanges(r, l, 15)
			filepath.WalkDir(l, func(p string, d fs.DirEntry, err error) error {
				switch r.IntN(4) {
				case 0:
					unix.Lsetxattr(p, attrs[r.IntN(len(attrs))], []byte(values[r.IntN(len(values))]), 0)
				case 1:
					os.Symlink(out, p+"/link")
				case 2:
					unix.Mknod(p+"/"+[]string{"a", "b", "c"}[r.IntN(3)], unix.S_IFCHR, 0)
				}
				return nil
			})
		}
		want := listed(t, s)
		for p := range want {
			if strings.Contains(p, "secret") {
				t.Errorf("found %q", p)
			}
		}
		for n := range len(s) + 1 {
			got, _ := applied(t, s, n)
			got["."] = want["."]
			compare(t, "changes", got, want)
		}
		if t.Failed() {
			return
		}
	}
}
