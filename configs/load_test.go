package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		yaml string
		want Config
	}{
		{"", Config{}},
		{"# only a comment\n", Config{}},
		{"---\nimage: debian:12\n...\n", Config{Image: "debian:12"}},
		{"\ufeffimage: debian:12", Config{Image: "debian:12"}},
		{"image: host\r\ntimeout: 30m\r\n", Config{Image: "host", Timeout: 30 * time.Minute}},
		{"env:\nports:\nsetup: ~\n", Config{}},
		{"setup: {run: npm ci, key: [package-lock.json, 'src/*.c']}", Config{Setup: Setup{"npm ci", []string{"package-lock.json", "src/*.c"}}}},
		{"carry: auto", Config{}},
		{"carry: off", Config{Carry: Carry{Off: true}}},
		{"carry: []", Config{Carry: Carry{Off: true}}},
		{"carry: [.env, 'a b/c']", Config{Carry: Carry{Paths: []string{".env", "a b/c"}}}},
		{"caches: off\nnetwork: none", Config{Caches: Off, Network: NetworkNone}},
		{"env: {A: text, B: 1.50, C: true, D: '', E: 2026-01-02, on: off, F: 0x1F, G: 1_000}", Config{Env: map[string]string{
			"A": "text", "B": "1.50", "C": "true", "D": "", "E": "2026-01-02", "on": "off", "F": "0x1F", "G": "1_000",
		}}},
		{"env: {A: &a x, B: *a}", Config{Env: map[string]string{"A": "x", "B": "x"}}},
		{"limits: {cpus: 1.5, memory: 4g, pids: 100}", Config{Limits: Limits{1.5, 4 << 30, 100}}},
		{"limits: {cpus: '2', memory: 512MiB}", Config{Limits: Limits{CPUs: 2, Memory: 512 << 20}}},
		{"limits: {memory: 1.5G}", Config{Limits: Limits{Memory: 3 << 29}}},
		{"limits: {memory: 8388608}", Config{Limits: Limits{Memory: 8 << 20}}},
		{"ports: [4040, '8080:4040', 22:23, 53/udp]", Config{Ports: []Port{
			{Port: 4040, Proto: "tcp"}, {Port: 4040, Host: 8080, Proto: "tcp"}, {Port: 23, Host: 22, Proto: "tcp"}, {Port: 53, Proto: "udp"},
		}}},
		{"ports: []", Config{Ports: []Port{}}},
		{"timeout: 1h30m", Config{Timeout: 90 * time.Minute}},
		{"timeout: 0", Config{}},
	} {
		got, err := parse([]byte(c.yaml), FromUser, "/f")
		if err != nil {
			t.Errorf("%q: %v", c.yaml, err)
		} else if !reflect.DeepEqual(normal(got.Config), normal(c.want)) {
			t.Errorf("%q:\n got %+v\nwant %+v", c.yaml, got.Config, c.want)
		}
		if err := schemaCheck(t, c.yaml); err != nil {
			t.Errorf("%q is refused by the schema: %v", c.yaml, err)
		}
	}
}

// normal makes "auto" of a switch that is not set, which is the same.
func normal(c Config) Config {
	if c.Caches == "" {
		c.Caches = Auto
	}
	return c
}

// refused are files that are wrong: where, and with what text and hint.
var refused = []struct {
	yaml, place, text, hint string
	beyond                  bool // what a schema cannot tell
}{
	{yaml: "imgae: host", place: "1:1", text: `there is no key "imgae"`, hint: "did you mean image?"},
	{yaml: "# x\n\nimage: host\nlimits:\n  memmory: 4g", place: "5:3", text: `there is no key "memmory"`, hint: "did you mean memory?"},
	{yaml: "frobnication: 1", place: "1:1", text: `there is no key "frobnication"`, hint: "the keys are image, setup, carry"},
	{yaml: "<<: {image: host}", place: "1:1", text: `there is no key "<<"`, beyond: true},
	{yaml: "[a]: b", place: "1:1", text: "a key is to be a name, not a list", beyond: true},
	{yaml: "- image: host", place: "1:1", text: "keys and values are wanted here, not a list"},
	{yaml: "just text", place: "1:1", text: `keys and values are wanted here, not "just text"`},
	{yaml: "image: a\nenv: {}\nimage: b", place: "3:1", text: `"image" is there already, in line 1`, beyond: true},
	{yaml: "env: {A: 1, A: 2}", place: "1:13", text: `env: "A" is there already, in line 1`, beyond: true},
	{yaml: "image: [a]", place: "1:8", text: "image: it is to be a text, and is a list", hint: "write image: host"},
	{yaml: "image: 12", place: "1:8", text: "image: it is to be a text, and is the number 12", hint: `put it in quotes: "12"`},
	{yaml: `image: ""`, place: "1:8", text: "image: it is empty"},
	{yaml: "image: {build: {context: .}}", place: "1:9", text: "image: build is not available in this version of berth", hint: "build it, and name"},
	{yaml: "image: {devcontainer: true}", place: "1:9", text: "image: devcontainer is not available in this version of berth"},
	{yaml: "network: {allow: [a.org]}", place: "1:10", text: "network: a list of what is allowed is not available in this version of berth", hint: "write full or none"},
	{yaml: "network: false", place: "1:10", text: `network: only full or none is possible`, hint: "write full or none"},
	{yaml: "setup: npm ci", place: "1:8", text: `setup: it is to have keys, and is "npm ci"`, hint: "write setup: {run: npm ci"},
	{yaml: "setup: {key: [a]}", place: "1:8", text: "setup: there is no command"},
	{yaml: "setup: {run: ' '}", place: "1:8", text: "setup: there is no command"},
	{yaml: "setup: {run: a, keys: [a]}", place: "1:17", text: `setup: there is no key "keys"`, hint: "did you mean key?"},
	{yaml: "setup: {run: a, key: a}", place: "1:22", text: `setup: it is to be a list, and is "a"`},
	{yaml: "setup: {run: a, key: ['[']}", place: "1:23", text: `setup: "[": a [ in it has no end`, beyond: true},
	{yaml: "setup: {run: a, key: [../x]}", place: "1:23", text: `setup: "../x": it leads out of the repository`},
	{yaml: "carry: [a, /etc/passwd]", place: "1:12", text: `carry: "/etc/passwd": it is absolute`},
	{yaml: "carry: [a/../../b]", place: "1:9", text: `carry: "a/../../b": it leads out of the repository`},
	{yaml: "carry: [.git/config]", place: "1:9", text: `carry: ".git/config": git's own files`},
	{yaml: "carry: [.]", place: "1:9", text: `carry: ".": it is the whole repository`, beyond: true},
	{yaml: "carry: [\"a\\0b\"]", place: "1:9", text: `carry: it holds a zero byte`, beyond: true},
	{yaml: "carry: true", place: "1:8", text: `carry: only auto or off is possible`, hint: "write auto, off, or a list of paths"},
	{yaml: "caches: [a]", place: "1:9", text: "caches: only auto or off is possible"},
	{yaml: "env: [A=1]", place: "1:6", text: "env: it is to have keys, and is a list", hint: `write env: {NAME: "value"}`},
	{yaml: "env:\n  A:\n", place: "2:3", text: "env: A has no value", hint: `write A: "" for an empty one`},
	{yaml: "env: {A: [b]}", place: "1:10", text: "env: the value of A is to be a text, not a list"},
	{yaml: "env: {A B: c}", place: "1:7", text: `env: "A B": it cannot be the name of a variable`},
	{yaml: `env: {A: "\0"}`, place: "1:10", text: "env: the value of A holds a zero byte", beyond: true},
	{yaml: "env: {A: !!binary aGk=}", place: "1:10", text: "env: the value of A is to be a text, not of the type !!binary", beyond: true},
	{yaml: "limits: 4g", place: "1:9", text: `limits: it is to have keys, and is "4g"`, hint: "write limits: {cpus: 2"},
	{yaml: "limits: {cpus: 0}", place: "1:16", text: `limits.cpus: "0": it is below 0.01`, hint: "write a number such as 2 or 0.5"},
	{yaml: "limits: {cpus: .nan}", place: "1:16", text: `limits.cpus: ".nan"`, beyond: true},
	{yaml: "limits: {cpus: true}", place: "1:16", text: `limits.cpus: it is to be a number, and is "true"`},
	{yaml: "limits: {memory: 4}", place: "1:18", text: `limits.memory: "4": it is below 6m`, hint: "write a size such as 512m or 4g"},
	{yaml: "limits: {memory: 4x}", place: "1:18", text: `limits.memory: "4x": it is not a number with a unit`},
	{yaml: "limits: {memory: 99999999999t}", place: "1:18", text: `limits.memory: "99999999999t": there is no such machine`, beyond: true},
	{yaml: "limits: {pids: 1}", place: "1:16", text: `limits.pids: "1": it is below 32`},
	{yaml: "limits: {pids: 1.5}", place: "1:16", text: `limits.pids: "1.5": it is not a whole number`},
	{yaml: "ports: 4040", place: "1:8", text: "ports: it is to be a list, and is the number 4040", hint: "write ports: [4040"},
	{yaml: "ports: [70000]", place: "1:9", text: `ports: "70000": 70000 is not between 1 and 65535`},
	{yaml: "ports: [80/sctp]", place: "1:9", text: `ports: "80/sctp": the protocol is tcp or udp`},
	{yaml: "timeout: 30", place: "1:10", text: `timeout: "30": it is not a number with a unit`, hint: "write 90s, 30m or 1h30m"},
	{yaml: "timeout: -5s", place: "1:10", text: `timeout: "-5s": it is negative`},
	{yaml: "timeout: 5us", place: "1:10", text: `timeout: "5us": it is below a millisecond`, beyond: true},
	{yaml: "image: \"x\nports: []\n", place: "1:8", text: "this is not YAML: ", beyond: true},
	{yaml: "a: b: c", place: "1:5", text: "this is not YAML: ", beyond: true},
	{yaml: "env:\n\tA: b", place: "2:1", text: "this is not YAML: ", hint: "indent with spaces", beyond: true},
	{yaml: "image: *nothing", place: "1:8", text: "this is not YAML: ", beyond: true},
	{yaml: "env: &a {A: *a}", place: "1:6", text: "env: the value of A is to be a text, not a set of keys", beyond: true},
	{yaml: "image: a\n---\nimage: b", place: "2:1", text: "a second document begins here", hint: "take out the line ---", beyond: true},
	{yaml: "image: a\n---\nb: c: d", place: "3:5", text: "this is not YAML: ", beyond: true},
	{yaml: "image: h\xffst", place: "1:9", text: "this is not UTF-8 text", beyond: true},
	{yaml: "\xff\xfei\x00m\x00", place: "1:1", text: "this is not UTF-8 text", beyond: true},
	{yaml: "image: a\x1b[31m", place: "1:9", text: "a control character (0x1b) is not text", beyond: true},
	{yaml: strings.Repeat("[", 100_000), place: "1:10001", text: "this is not YAML: ", beyond: true},
	{yaml: strings.Repeat("{a: ", 100_000), place: "1:40001", text: "this is not YAML: ", beyond: true},
	{yaml: bomb, place: "1:1", text: `there is no key "a"`, beyond: true},
}

// bomb is 10^9 texts, if aliases are expanded.
var bomb = func() string {
	var b strings.Builder
	b.WriteString("a: &a [x,x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c <= 'i'; c++ {
		last := "*" + string(c-1)
		b.WriteString(string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat(last+",", 10), ",") + "]\n")
	}
	return b.String() + "carry: *i\n"
}()

func TestParseRefuses(t *testing.T) {
	for _, c := range refused {
		name := c.yaml[:min(len(c.yaml), 80)]
		_, err := parse([]byte(c.yaml), FromRepo, "/f")
		var file *FileError
		if !errors.As(err, &file) {
			t.Errorf("%q: %v, want a FileError", name, err)
			continue
		}
		p := file.Problems[0]
		if got := p.String(); !strings.HasPrefix(got, "/f:"+c.place+": "+c.text) {
			t.Errorf("%q: got %q, want %s %s", name, got, c.place, c.text)
		}
		if c.hint != "" && !strings.HasPrefix(p.Hint, c.hint) {
			t.Errorf("%q: hint %q, want %q", name, p.Hint, c.hint)
		}
		if !c.beyond && schemaCheck(t, c.yaml) == nil {
			t.Errorf("%q passes the schema", name)
		}
	}
}

func TestProblemsAreToldTogether(t *testing.T) {
	_, err := parse([]byte("imgae: x\ntimeout: 5\nlimits: {cpus: x, pids: y}\nports: [80]\n"), FromUser, "/f")
	var file *FileError
	if !errors.As(err, &file) || len(file.Problems) != 4 {
		t.Fatalf("got %#v", err)
	}
	for i, line := range []int{1, 2, 3, 3} {
		if file.Problems[i].Line != line {
			t.Errorf("problem %d is in line %d, want %d", i, file.Problems[i].Line, line)
		}
	}
	_, err = parse([]byte(strings.Repeat("x: 1\n", 100)), FromUser, "/f")
	if !errors.As(err, &file) || len(file.Problems) != mostProblems {
		t.Errorf("got %d problems", len(file.Problems))
	}
}

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("a", 500)
	s := newSource([]byte("image: host\r\n\tb: c\n\nä\x1b[31mü\n" + long))
	for _, c := range []struct {
		line, column int
		want         string
	}{
		{1, 8, "image: host\n       ^"},
		{2, 2, "\tb: c\n\t^"},
		{3, 1, ""},
		{4, 2, "ä [31mü\n ^"},
		{5, 300, long[:120] + "\n" + strings.Repeat(" ", 60) + "^"},
		{9, 1, ""}, {1, 99, ""}, {0, 0, ""},
	} {
		if got := s.excerpt(c.line, c.column); got != c.want {
			t.Errorf("%d:%d: got %q, want %q", c.line, c.column, got, c.want)
		}
	}
}

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

// FuzzParse looks for files that end the program, or that are refused without a
// place to look at.
func FuzzParse(f *testing.F) {
	for _, c := range refused {
		f.Add([]byte(c.yaml))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parse(data, FromRepo, "/f")
		var file *FileError
		if err != nil && (!errors.As(err, &file) || file.Problems[0].Line < 1 || file.Problems[0].Column < 1) {
			t.Errorf("%q: %v", data, err)
		}
	})
}
