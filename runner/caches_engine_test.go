package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func (h *harness) repoID() string {
	h.t.Helper()
	repo, err := h.store.Open(h.t.Context(), h.repo)
	if err != nil {
		h.t.Fatal(err)
	}
	return repo.ID()
}

// TestCachesAreShared has the caches of all tools, beside a toolchain that is
// mounted in the middle of them.
func TestCachesAreShared(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	t.Setenv("HOME", home)
	for _, tool := range []string{".cargo/bin/tool", ".npm-global/bin/tool2", "go/bin/tool3"} {
		path := filepath.Join(home, tool)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+filepath.Base(tool)+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", filepath.Dir(path)+":"+os.Getenv("PATH"))
	}
	h := newHarness(t)
	var write, read strings.Builder
	for _, c := range toolCaches {
		if c.file {
			write.WriteString("echo x >~/" + c.home + "; ")
			read.WriteString("cat ~/" + c.home + "; ")
			continue
		}
		write.WriteString("echo " + c.cache + " >~/" + c.home + "/mine; ")
		read.WriteString("cat ~/" + c.home + "/mine; ")
	}
	const tools = "tool && tool2 && tool3; ! touch ~/.cargo/bin/x 2>/dev/null && touch ~/.cargo/config.toml && echo fine"
	if got := h.output("set -e; " + write.String() + tools); got != "tool\ntool2\ntool3\nfine\n" {
		t.Errorf("got %q", got)
	}
	const want = "go-mod\ngo-build\nnpm\npip\ncargo-registry\ncargo-git\nx\nx\n"
	if got := h.output(read.String() + "ls ~/.cargo"); got != want+"bin\ngit\nregistry\n" {
		t.Errorf("the next job sees %q", got)
	}
	if got := h.output("("+read.String()+") 2>/dev/null; tool; touch ~/.cargo/x", func(s *Spec) { s.NoCaches = true }); got != "tool\n" {
		t.Errorf("without caches it sees %q", got)
	}
}

// TestToolchainWithinACache has npm's prefix at the place of its cache.
func TestToolchainWithinACache(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	bin := filepath.Join(home, ".npm/_cacache/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "odd"), []byte("#!/bin/sh\necho odd\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("N_PREFIX", filepath.Dir(bin))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	h := newHarness(t)
	if got := h.output("odd; echo x >~/.npm/_cacache/y"); got != "odd\n" {
		t.Errorf("got %q", got)
	}
	if info, err := os.Stat(filepath.Join(h.dirs.Cache, h.repoID(), "caches/npm/bin")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the mount point: %v, %v", info, err)
	}
}

func TestRemoveCaches(t *testing.T) {
	h := newHarness(t)
	id := h.repoID()
	h.output("mkdir ~/go/pkg/mod/m && head -c 100000 /dev/zero >~/go/pkg/mod/m/big && chmod 500 ~/go/pkg/mod/m")
	caches, err := Caches(t.Context(), h.dirs)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(caches, func(c Cache) bool { return c.Name == "go-mod" })
	if i < 0 || caches[i].Repo != id || caches[i].Size < 100_000 || caches[i].Size > 200_000 || time.Since(caches[i].Used) > time.Minute {
		t.Errorf("got %+v", caches)
	}
	if repos := CacheRepos(h.dirs); !slices.Equal(repos, []string{id}) {
		t.Errorf("got %q", repos)
	}

	busy := h.until(h.start("echo ready; sleep 300"), "text:ready")
	var inUse *CachesInUseError
	if err := RemoveCaches(t.Context(), h.dirs, id); !errors.As(err, &inUse) {
		t.Errorf("removal under a job: %v", err)
	}
	if code, _ := h.execute(busy, "test", "-e", filepath.Join(h.home, "go/pkg/mod/m/big")); code != 0 {
		t.Error("a refused removal has removed something")
	}
	if _, err := h.Kill(context.Background(), KillRequest{Jobs: []string{busy.ID}, By: "the test"}); err != nil {
		t.Fatal(err)
	}
	// What an earlier removal left goes as well.
	if err := os.MkdirAll(filepath.Join(h.dirs.Cache, id, cachesTrash+"1/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveCaches(t.Context(), h.dirs, id); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(h.dirs.Cache, id, "caches*")); len(left) != 1 || filepath.Base(left[0]) != cachesLock {
		t.Errorf("left: %q", left)
	}
	if got := h.output("ls ~/go/pkg/mod"); got != "" {
		t.Errorf("the next job sees %q", got)
	}
	if err := RemoveCaches(t.Context(), h.dirs, "nobody-00000000"); err != nil {
		t.Error(err)
	}
	if err := RemoveCaches(t.Context(), h.dirs, "../"+filepath.Base(h.dirs.Cache)); err != nil {
		t.Error(err)
	}
}
