package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// places is a user's file, a working tree and a trust store.
func places(t *testing.T, user, repo string, env map[string]string) Sources {
	t.Helper()
	dir := t.TempDir()
	s := Sources{
		UserFile: filepath.Join(dir, "user", FileName), Root: filepath.Join(dir, "repo"),
		Getenv: func(key string) string { return env[key] }, Trust: Trust(filepath.Join(dir, "trust")),
	}
	for path, data := range map[string]string{s.UserFile: user, filepath.Join(s.Root, FileName): repo} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestLayers(t *testing.T) {
	from := places(t,
		"image: debian:12\nenv: {A: user, B: user}\nlimits: {cpus: 8, memory: 8g}\nports: [1, 2]\ntimeout: 1h\n",
		"\nenv: {B: repo, C: repo}\nlimits: {memory: 1g}\nports: [3]\ntimeout: 2h\n",
		map[string]string{"BERTH_TIMEOUT": "5m", "BERTH_LIMITS_PIDS": "99", "BERTH_CARRY": "off", "BERTH_IMAGE": ""})
	s, err := Load(from)
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(from.Root, FileName)
	want := map[string]string{
		"image":         "debian:12 " + from.UserFile + ":1",
		"setup":         " default",
		"carry":         "off BERTH_CARRY",
		"caches":        "auto default",
		"limits.cpus":   "8 " + from.UserFile + ":3",
		"limits.memory": "1g " + repo + ":3",
		"limits.pids":   "99 BERTH_LIMITS_PIDS",
		"network":       "full default",
		"ports":         "3 " + repo + ":4",
		"timeout":       "5m0s BERTH_TIMEOUT",
		"env.A":         "user " + from.UserFile + ":2",
		"env.B":         "repo " + repo + ":2",
		"env.C":         "repo " + repo + ":2",
	}
	for _, v := range s.List() {
		if got := v.Text + " " + v.From.String(); got != want[v.Key] {
			t.Errorf("%s: got %q, want %q", v.Key, got, want[v.Key])
		}
		delete(want, v.Key)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
	if len(s.Asked) > 0 {
		t.Errorf("asked for trust: %v", s.Asked)
	}

	// Flags are one more layer.
	flags := Layer{Config: Config{Image: "x", Env: map[string]string{"C": "flag"}}}
	flags.Mark("image", Origin{Kind: FromFlag, Name: "--image"})
	flags.Mark("env.C", Origin{Kind: FromFlag, Name: "-e"})
	s.Over(flags)
	if s.Image != "x" || s.From["image"].Name != "--image" || s.Env["C"] != "flag" || s.Env["B"] != "repo" {
		t.Errorf("got %+v", s.Layer)
	}
}

func TestEnvironmentIsChecked(t *testing.T) {
	for name, value := range map[string]string{
		"BERTH_TIMEOUT": "5", "BERTH_NETWORK": "some", "BERTH_CARRY": "a/b", "BERTH_LIMITS_MEMORY": "1", "BERTH_CACHES": "on",
	} {
		_, err := Load(Sources{Getenv: func(key string) string {
			if key == name {
				return value
			}
			return ""
		}})
		var bad *VariableError
		if !errors.As(err, &bad) || bad.Name != name || bad.Hint == "" || strings.Count(err.Error(), strconv.Quote(value)) != 1 {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// TestUntrusted goes through what a repository's file may set by itself.
func TestUntrusted(t *testing.T) {
	for _, c := range []struct {
		user, repo string
		asked      string // keys
	}{
		{"", "image: evil/image\nsetup: {run: make}\nnetwork: full\nports: [80]\ntimeout: 9h\ncaches: auto\ncarry: auto\nenv: {LD_PRELOAD: x}", ""},
		{"", "limits: {cpus: 64, memory: 64g, pids: 4096}", ""},
		{"", "carry: off\ncaches: off\nnetwork: none", ""},
		{"", "carry: [.env]", "carry"},
		{"", "limits: {pids: 5000}", "limits.pids"},
		{"limits: {memory: 1g, cpus: 1}", "limits: {memory: 2g, cpus: 0.5}", "limits.memory"},
		{"network: none", "network: full", "network"},
		{"caches: off\ncarry: off", "caches: auto\ncarry: auto", "carry caches"},
		{"image: debian:12", "image: host", "image"},
		{"image: debian:12", "image: alpine", ""},
	} {
		from := places(t, c.user, c.repo, nil)
		s, err := Load(from)
		if err != nil {
			t.Fatal(err)
		}
		var asked []string
		for _, a := range s.Ignored() {
			asked = append(asked, a.Key)
			if s.From[a.Key].Kind == FromRepo {
				t.Errorf("%q over %q: %s counts", c.repo, c.user, a.Key)
			}
		}
		if got := strings.Join(asked, " "); got != c.asked {
			t.Errorf("%q over %q: asked for %q, want %q", c.repo, c.user, got, c.asked)
		}
		if err := from.Trust.Add(from.Root, s.Sum, time.Now()); err != nil {
			t.Fatal(err)
		}
		if s, err = Load(from); err != nil || !s.Trusted || len(s.Ignored()) > 0 {
			t.Fatalf("%q: %v, %v", c.repo, s, err)
		}
		for _, key := range strings.Fields(c.asked) {
			if s.From[key].Kind != FromRepo {
				t.Errorf("%q, trusted: %s comes from %v", c.repo, key, s.From[key])
			}
		}
	}
}

func TestTrustIsOfContentAndPlace(t *testing.T) {
	from := places(t, "", "carry: [a]\n", nil)
	file := filepath.Join(from.Root, FileName)
	load := func(trusted bool) *Settings {
		t.Helper()
		s, err := Load(from)
		if err != nil || s.Trusted != trusted {
			t.Fatalf("trusted %v, want %v (%v)", s.Trusted, trusted, err)
		}
		return s
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := from.Trust.Add(from.Root, load(false).Sum, time.Now()); err != nil {
		t.Fatal(err)
	}
	if s := load(true); s.Carry.Paths[0] != "a" {
		t.Errorf("got %+v", s.Carry)
	}
	write("carry: [b]\n")
	load(false)
	write("carry: [a]\n")
	load(true)
	other := from
	other.Root = filepath.Dir(from.UserFile)
	if err := os.WriteFile(from.UserFile, []byte("carry: [a]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(Sources{Root: other.Root, Getenv: from.Getenv, Trust: from.Trust}); err != nil || s.Trusted {
		t.Errorf("the same content elsewhere is trusted (%v)", err)
	}
	if list, err := from.Trust.List(); err != nil || len(list) != 1 || list[0].Root != from.Root {
		t.Errorf("got %v, %v", list, err)
	}
	if n, err := from.Trust.Revoke(from.Root); n != 1 || err != nil {
		t.Errorf("revoked %d, %v", n, err)
	}
	load(false)
}

// TestFilesThatAreNone has what may stand in a working tree under our name.
func TestFilesThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		want string // "" is no error
	}{
		"nothing":   {func(string) error { return nil }, ""},
		"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "it is not a regular file"},
		"pipe":      {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "it is not a regular file"},
		"huge": {func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("# x\n", largestFile/4+1)), 0o600)
		}, "it is larger than 1 MiB"},
		"as large as it may be": {func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("# x\n", largestFile/4)), 0o600)
		}, ""},
		"link out": {func(path string) error {
			out := filepath.Join(filepath.Dir(filepath.Dir(path)), "secret")
			return errors.Join(os.WriteFile(out, []byte("image: stolen"), 0o600), os.Symlink("../secret", path))
		}, "it is a link that leads out of the repository"},
		"absolute link":  {func(path string) error { return os.Symlink("/etc/passwd", path) }, "it is a link that leads out of the repository"},
		"dangling link":  {func(path string) error { return os.Symlink("gone", path) }, "it is a link to nothing"},
		"link to itself": {func(path string) error { return os.Symlink(FileName, path) }, "it is a link"},
		"link within": {func(path string) error {
			real := filepath.Join(filepath.Dir(path), "real")
			return errors.Join(os.WriteFile(real, []byte("image: x"), 0o600), os.Symlink("real", path))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "repo")
			if err := errors.Join(os.Mkdir(root, 0o700), c.make(filepath.Join(root, FileName))); err != nil {
				t.Fatal(err)
			}
			_, err := Load(Sources{Root: root, Getenv: func(string) string { return "" }})
			var file *FileError
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.As(err, &file) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	// The user's own may be a link anywhere, as those do who keep such files in
	// a repository.
	dir := t.TempDir()
	real, link := filepath.Join(dir, "dotfiles"), filepath.Join(dir, FileName)
	if err := errors.Join(os.WriteFile(real, []byte("image: x"), 0o600), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(Sources{UserFile: link, Getenv: func(string) string { return "" }}); err != nil || s.Image != "x" {
		t.Errorf("got %v", err)
	}
}
