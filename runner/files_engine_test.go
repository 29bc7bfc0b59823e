package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/volume"

	"berth/worktree"
)

// inForms runs a test with each form that files can have.
func inForms(t *testing.T, test func(t *testing.T, h *harness)) {
	for _, form := range []string{worktree.Overlay, worktree.Plain} {
		t.Run(form, func(t *testing.T) {
			h := newHarness(t)
			if form == worktree.Plain {
				h.probed = &Probed{Why: "the test wants it so"}
			}
			test(t, h)
			records, err := h.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if r.Form != form {
					t.Errorf("%s has the form %s", r.Handle, r.Form)
				}
			}
		})
	}
}

func from(r Record) func(*Spec) { return func(s *Spec) { s.From = r.ID } }

func TestFrom(t *testing.T) {
	inForms(t, func(t *testing.T, h *harness) {
		write(t, filepath.Join(h.repo, "dirty.txt"), "uncommitted\n")
		first := h.start(`echo built > out; mkdir dir; mv hello.txt dir/; git add -A; git -c user.name=J -c user.email=j@example.org commit -qm job`)
		h.exit(first)
		write(t, filepath.Join(h.repo, "dirty.txt"), "changed since\n")
		for i := range 2 { // each has its own
			got := h.output(`cat out dir/hello.txt dirty.txt; ls; git status --porcelain; git log --format=%s; echo mine >> out; rm -r dir`, from(first))
			if want := "built\nhello\nuncommitted\ndir\ndirty.txt\nout\njob\nfirst\n"; got != want {
				t.Errorf("job %d printed %q, want %q", i, got, want)
			}
		}
		// Far down a chain.
		n := 20
		if testing.Short() {
			n = 3
		}
		r := first
		for i := range n {
			r = h.start(fmt.Sprintf("cat out; echo %d >> out; mv dir d%d; mv d%d dir", i, i, i), from(r))
			if e := h.exit(r); !e.OK() {
				t.Fatalf("%d jobs deep: %v\n%s", i, e, h.text(r, 0))
			}
		}
		if got := strings.Count(h.text(r, 0), "\n"); got != n {
			t.Errorf("the last of %d saw %d lines", n, got)
		}
	})
}

func TestFromRefuses(t *testing.T) {
	h := newHarness(t)
	running := h.start("echo ready; sleep 60")
	h.until(running, "text:ready")
	kept := h.start("true", func(s *Spec) { s.Keep = true })
	h.exit(kept)
	failed := h.start("true", func(s *Spec) { s.Argv = []string{"/nonexistent"} })
	h.exit(failed)
	live := h.start("true", func(s *Spec) { s.Live = true })
	h.exit(live)
	shared := h.start("true", func(s *Spec) { s.Workspace = "w" })
	h.exit(shared)
	for _, r := range []Record{running, kept, failed, live, shared} {
		spec := h.spec("true")
		spec.From = r.Handle
		var refused *FromError
		if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &refused) {
			t.Errorf("from %s (%s): %v", r.Handle, r.Line(), err)
		}
	}
	spec := h.spec("true")
	spec.From = "nobody"
	var unknown *UnknownJobError
	if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &unknown) {
		t.Errorf("from nobody: %v", err)
	}
}

// Jobs in one workspace see what the others write, at once and one after another.
func TestNamedWorkspace(t *testing.T) {
	inForms(t, func(t *testing.T, h *harness) {
		in := func(s *Spec) { s.Workspace = "shared.one" }
		a := h.start("echo 1 > a; until [ -e b ]; do sleep 0.02; done; cat b", in)
		b := h.start("until [ -e a ]; do sleep 0.02; done; cat a; echo 2 > b; mv hello.txt moved", in)
		for _, r := range []Record{a, b} {
			if e := h.exit(r); !e.OK() {
				t.Errorf("%s: %v", r.Handle, e)
			}
		}
		if got := h.text(a, 0) + h.text(b, 0); got != "2\n1\n" {
			t.Errorf("they saw %q", got)
		}
		if got := h.output("cat a b moved; git status --porcelain", in); got != "1\n2\nhello\n D hello.txt\n?? a\n?? b\n?? moved\n" {
			t.Errorf("a later one saw %q", got)
		}
		if got := h.output("ls"); got != "hello.txt\n" {
			t.Errorf("another job sees %q", got)
		}
		spec := h.spec("true")
		spec.Workspace, spec.Ref = "shared.one", "main"
		var invalid *InvalidError
		if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &invalid) {
			t.Errorf("with another ref: %v", err)
		}
		if err := h.End(context.Background(), "the test"); err != nil {
			t.Error(err)
		}
		list, err := h.eng.VolumeList(t.Context(), volume.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list.Volumes {
			if v.Labels[LabelSession] == a.Session {
				t.Errorf("volume %s is left", v.Name)
			}
		}
	})
}

// Ten jobs that ask at once get the results of one setup, and each may change them alone.
func TestSetup(t *testing.T) {
	inForms(t, func(t *testing.T, h *harness) {
		write(t, filepath.Join(h.repo, ".gitignore"), "deps\n")
		write(t, filepath.Join(h.repo, "lock"), "1\n")
		setup := func(s *Spec) {
			s.Setup = &Setup{Run: "echo once >> $HOME/go/pkg/mod/count; mkdir deps; cp lock deps/from; echo spoilt > hello.txt; echo x > .git/x", Key: []string{"lock"}}
		}
		count := func() int {
			return strings.Count(h.output("cat go/pkg/mod/count || true", func(s *Spec) { s.Argv = Shell("cat $HOME/go/pkg/mod/count || true") }), "once")
		}
		var jobs []Record
		n := 10
		if h.probed != nil && !h.probed.OK && testing.Short() {
			n = 3
		}
		for range n {
			jobs = append(jobs, h.start("cat deps/from hello.txt; git status --porcelain; ls .git/x; echo mine >> deps/from; cat deps/from", setup))
		}
		for _, r := range jobs {
			h.exit(r)
			if got, want := h.text(r, 1), "1\nhello\n?? .gitignore\n?? lock\n1\nmine\n"; got != want {
				t.Errorf("%s printed %q, want %q", r.Handle, got, want)
			}
		}
		if got := count(); got != 1 {
			t.Errorf("the setup ran %d times", got)
		}
		write(t, filepath.Join(h.repo, "hello.txt"), "edited\n")
		if got := h.output("cat deps/from hello.txt", setup); got != "1\nedited\n" {
			t.Errorf("with another file changed: %q", got)
		}
		if got := count(); got != 1 {
			t.Errorf("the setup ran %d times", got)
		}
		write(t, filepath.Join(h.repo, "lock"), "2\n")
		if got := h.output("cat deps/from", setup); got != "2\n" {
			t.Errorf("with another lock file: %q", got)
		}
	})
}

func TestSetupFails(t *testing.T) {
	h := newHarness(t)
	fails := func(s *Spec) { s.Setup = &Setup{Run: "echo out; echo why >&2; exit 3"} }
	var jobs []Record
	for range 3 {
		jobs = append(jobs, h.start("echo ran", fails))
	}
	for _, r := range jobs {
		e := h.exit(r)
		if e.Reason != ReasonStartFailed || !strings.Contains(e.Error, "exit 3") || e.Status() != 125 {
			t.Errorf("exit %+v", e)
		}
		if got := h.text(r, 0); !strings.Contains(got, "out\n") || !strings.Contains(got, "why\n") || strings.Contains(got, "ran") {
			t.Errorf("%s shows %q", r.Handle, got)
		}
	}
	left, _ := filepath.Glob(filepath.Join(h.dirs.Cache, "*/layers/setup-*/*"))
	for _, l := range left {
		if filepath.Base(l) != "lock" {
			t.Errorf("left: %s", l)
		}
	}
	r := h.start("true", func(s *Spec) { s.Setup = &Setup{Run: "true", Key: []string{"absent"}} })
	if e := h.exit(r); e.Reason != ReasonStartFailed || !strings.Contains(e.Error, "absent") {
		t.Errorf("exit %+v", e)
	}
	// One that waits can be killed, and the setup with it.
	r = h.start("true", func(s *Spec) { s.Setup = &Setup{Run: "echo begun; sleep 60"} })
	if _, err := h.Kill(t.Context(), KillRequest{Jobs: []string{r.ID}, By: "the test"}); err != nil {
		t.Error(err)
	}
	if e := h.exit(r); e.Reason != ReasonKilled {
		t.Errorf("exit %+v", e)
	}
}

// Carried dependencies behave like files of the job's own.
func TestCarry(t *testing.T) {
	inForms(t, func(t *testing.T, h *harness) {
		write(t, filepath.Join(h.repo, ".gitignore"), "node_modules\n.env\n")
		write(t, filepath.Join(h.repo, "package-lock.json"), "1\n")
		write(t, filepath.Join(h.repo, ".env"), "s3cret\n")
		dir := filepath.Join(h.repo, "node_modules", "a b:c,d")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "index.js"), "module\n")
		got := h.output(`cat node_modules/*/index.js; mv node_modules nm; echo x >> "nm/a b:c,d/index.js"; cat nm/*/index.js; rm -rf nm; mkdir node_modules; ls -A node_modules; ls -A`)
		if want := "module\nmodule\nx\n.git\n.gitignore\nhello.txt\nnode_modules\npackage-lock.json\n"; got != want {
			t.Errorf("the job printed %q, want %q", got, want)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "index.js")); err != nil || string(data) != "module\n" {
			t.Errorf("the user's file holds %q, %v", data, err)
		}
		got = h.output("ls -A; cat .env", func(s *Spec) { s.Carry = Carry{Paths: []string{".env"}} })
		if want := ".env\n.git\n.gitignore\nhello.txt\npackage-lock.json\ns3cret\n"; got != want {
			t.Errorf("the job printed %q, want %q", got, want)
		}
		spec := h.spec("true")
		spec.Carry.Paths = []string{"../out"}
		var refused *InvalidError
		if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &refused) {
			t.Errorf("outside: %v", err)
		}
		spec.Carry.Paths = []string{"absent"}
		var missing *worktree.CarryError
		if _, err := h.Run(t.Context(), spec, nil); !errors.As(err, &missing) {
			t.Errorf("absent: %v", err)
		}
	})
}

// What a job of root's makes, the calling user can look at, take, and be rid of.
func TestRootJob(t *testing.T) {
	inForms(t, func(t *testing.T, h *harness) {
		r := h.start(`id -u; umask 077; mkdir -p deep/er; echo made > deep/er/file; chmod 0 deep/er; mv hello.txt deep/; mkdir hello.txt; echo y > hello.txt/z; chown -R 12345 deep; echo log > /tmp/log; chmod 600 /tmp/log`,
			func(s *Spec) { s.Root = true })
		if e := h.exit(r); !e.OK() {
			t.Fatalf("%v: %s", e, h.text(r, 0))
		}
		if got := h.text(r, 0); got != "0\n" {
			t.Errorf("it printed %q", got)
		}
		if r.Form == worktree.Overlay || os.Getuid() == 0 { // nobody else can copy them
			again := h.start("cat deep/er/file hello.txt/z", func(s *Spec) { s.Root = true }, from(r))
			if e := h.exit(again); !e.OK() {
				t.Errorf("from it: %v %s", e, h.text(again, 0))
			}
		}
		results := h.results
		var patch bytes.Buffer
		result, err := results.Of(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := result.Diff(t.Context(), &patch, worktree.DiffOptions{NameOnly: true}); err != nil {
			t.Fatal(err)
		}
		if got, want := patch.String(), "deep/er/file\ndeep/hello.txt\nhello.txt/z\n"; got != want {
			t.Errorf("changed: %q, want %q", got, want)
		}
		var log bytes.Buffer
		if _, err := results.Copy(t.Context(), r, "/tmp/log", "-", &log); err != nil || log.String() != "log\n" {
			t.Errorf("/tmp/log: %q, %v", log.String(), err)
		}
		if _, err := result.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(h.repo, "deep/er/file"))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Getuid() {
			t.Errorf("the applied file belongs to %d", uid)
		}
		if err := h.End(context.Background(), "the test"); err != nil {
			t.Error(err)
		}
		for _, d := range []string{workDir, homeDir, tmpDir} {
			if _, err := os.Lstat(filepath.Join(r.Dirname, d)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", d, err)
			}
		}
	})
}

func TestDelivery(t *testing.T) {
	inForms(t, func(t *testing.T, h *harness) {
		apply := func(s *Spec) { s.Apply = true }
		r := h.until(h.start("echo made > made; chmod +x made; echo changed > hello.txt", apply), "exit")
		if r.Delivery == nil || r.Delivery.Written != 2 || r.Delivery.Failed() {
			t.Errorf("delivery %+v", r.Delivery)
		}
		if got := h.read("made") + h.read("hello.txt"); got != "made\nchanged\n" {
			t.Errorf("the files hold %q", got)
		}
		r = h.until(h.start("echo failed > hello.txt; exit 1", apply), "exit")
		if r.Delivery != nil || h.read("hello.txt") != "changed\n" {
			t.Errorf("a failed job delivered %+v", r.Delivery)
		}
		// The user edits the same lines meanwhile.
		r = h.start("echo ready; until [ -e /tmp/go ]; do sleep 0.02; done; echo theirs > hello.txt; echo new > other", apply)
		h.until(r, "text:ready")
		write(t, filepath.Join(h.repo, "hello.txt"), "ours\n")
		h.execute(r, "touch", "/tmp/go")
		r = h.until(r, "exit")
		if !r.Delivery.Failed() || len(r.Delivery.Conflicts) != 1 || !r.Exit.OK() {
			t.Errorf("delivery %+v, exit %+v", r.Delivery, r.Exit)
		}
		if _, err := os.Stat(filepath.Join(h.repo, "other")); err == nil || h.read("hello.txt") != "ours\n" {
			t.Error("a conflict changed something")
		}
		git(t, h.repo, "config", "user.name", "Me")
		git(t, h.repo, "config", "user.email", "me@example.org")
		r = h.until(h.start("git commit -qam one; echo 2 > two", func(s *Spec) { s.Branch = "from-job" }), "exit")
		if r.Delivery.Failed() || r.Delivery.Branch == nil {
			t.Fatalf("delivery %+v", r.Delivery)
		}
		if got := git(t, h.repo, "log", "--format=%s %an", "-2", "from-job"); !strings.Contains(got, "one") || !strings.Contains(got, "Me") {
			t.Errorf("log %q", got)
		}
	})
}

func (h *harness) read(path string) string {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.repo, path))
	if err != nil {
		h.t.Error(err)
	}
	return string(data)
}

// Thirty jobs from one setup take little more of the disk than one.
func TestManyFromOneSetup(t *testing.T) {
	h := newHarness(t)
	files, n := 20000, 30
	if testing.Short() {
		files, n = 2000, 8
	}
	write(t, filepath.Join(h.repo, ".gitignore"), "node_modules\n")
	setup := func(s *Spec) {
		s.Setup = &Setup{Run: fmt.Sprintf(`mkdir node_modules && cd node_modules && i=0; while [ $i -lt %d ]; do d=p$((i/100)); [ -d $d ] || mkdir $d; echo "module $i with some text in it" > $d/$i.js; i=$((i+1)); done`, files)}
	}
	h.output("true", setup)
	one := h.disk()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range n {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			got := h.output(fmt.Sprintf("echo %d > node_modules/p0/0.js; rm -r node_modules/p1; find node_modules -type f | wc -l; cat node_modules/p0/0.js", i), setup)
			if want := fmt.Sprintf("%d\n%d\n", files-100, i); got != want {
				t.Errorf("job %d printed %q, want %q", i, got, want)
			}
		})
	}
	wg.Wait()
	grown, copies := h.disk()-one, int64(n)*int64(files)*4096
	t.Logf("%d jobs took %d KB more, %d copies would take %d KB (%.2f %%)", n, grown>>10, n, copies>>10, 100*float64(grown)/float64(copies))
	if grown*20 > copies {
		t.Errorf("the disk grew by %d bytes, more than a twentieth of %d", grown, copies)
	}
}

// disk is what the harness's directories take.
func (h *harness) disk() (bytes int64) {
	for _, d := range []string{h.dirs.State, h.dirs.Cache} {
		size, err := diskUsage(context.Background(), d)
		if err != nil {
			h.t.Error(err)
		}
		bytes += size
	}
	return bytes
}
