package images

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestEnvPasses(t *testing.T) {
	home := t.TempDir()
	write(t, home+"/.pyenv/bin/x", "")
	env := []string{"HOME=" + home, "PATH=/usr/bin:" + home + "/.pyenv/bin", "LC_ALL=C", "TOKEN=x", "https_proxy=p", "PYENV_ROOT=" + home + "/.pyenv",
		"SSL_CERT_FILE=" + home + "/ca.pem", "CURL_CA_BUNDLE=/usr/ca.pem", "NVM_DIR=" + home + "/.config"}
	if got, want := HostEnv(env), []string{env[1], env[2], env[4], env[5], env[7]}; !slices.Equal(got, want) {
		t.Errorf("HostEnv = %q, want %q", got, want)
	}
	if got, want := Env(env), []string{env[2], env[4]}; !slices.Equal(got, want) {
		t.Errorf("Env = %q, want %q", got, want)
	}
}

func TestMasksAndSubmounts(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/ca.pem", "")
	write(t, dir+"/key.pem", "")
	if err := os.Chmod(dir+"/key.pem", 0o600); err != nil {
		t.Fatal(err)
	}
	if got := masks(Mount{Source: dir, Target: "/etc/c"}); len(got) != 1 || got[0].Target != "/etc/c/key.pem" {
		t.Errorf("masks = %v", got)
	}
	info := "1 0 8:1 / /usr rw - ext4 /dev/a rw\n2 1 8:2 / /usr/lo\\040cal rw,nodev shared:1 - ext4 /dev/b rw\n3 1 8:3 / /usr/ro ro - ext4 /dev/c ro\n"
	points, err := writableMounts(strings.NewReader(info))
	if want := []string{"/usr", "/usr/lo cal"}; err != nil || !slices.Equal(points, want) {
		t.Fatalf("writableMounts = %q, %v", points, err)
	}
	if got := remounts([]Mount{{Source: "/usr", Target: "/usr"}}, points[1], "/home/u"); len(got) != 1 || !got[0].ReadOnly || got[0].Target != "/usr/lo cal" {
		t.Errorf("remounts = %v", got)
	}
}

func TestPasswdCannotBeForged(t *testing.T) {
	passwd, group := Passwd(1000, 1000, "ann\nevil:x:0:0", "/home/a:b")
	if strings.Count(string(passwd), "\n") != 3 || !strings.Contains(string(passwd), ":x:1000:1000:") || !strings.Contains(string(group), ":x:1000:\n") {
		t.Errorf("passwd:\n%s\ngroup:\n%s", passwd, group)
	}
}

func TestInstallInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	bins := fstest.MapFS{"initbin/berth-init-linux-amd64": {Data: []byte("elf")}}
	path, err := installInit(bins, dir, "amd64")
	if got, _ := os.ReadFile(path); err != nil || string(got) != "elf" {
		t.Fatalf("%q: %q, %v", path, got, err)
	}
	if again, err := installInit(bins, dir, "amd64"); again != path || err != nil {
		t.Errorf("again: %q, %v", again, err)
	}
	if _, err := installInit(bins, dir, "arm64"); !errors.Is(err, ErrNoInit) {
		t.Errorf("arm64: %v", err)
	}
}
