package images

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// realEngine is the engine of this machine. Without one the test is skipped, or fails where one is required.
func realEngine(t *testing.T) *client.Client {
	t.Helper()
	eng, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		t.Cleanup(func() { eng.Close() })
		_, err = eng.Ping(t.Context())
	}
	if err != nil {
		if os.Getenv("BERTH_TEST_ENGINE") == "required" {
			t.Fatalf("no engine: %v", err)
		}
		t.Skipf("no engine: %v", err)
	}
	return eng
}

// runHost runs a shell script in the host image as uid, and returns its output and exit code.
func runHost(t *testing.T, eng *client.Client, uid, home, script string) (string, int64) {
	t.Helper()
	img, err := NewResolver(eng).Resolve(t.Context(), Host, nil)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := HostMounts(home, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	var binds []mount.Mount
	for _, m := range mounts {
		binds = append(binds, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	created, err := eng.ContainerCreate(ctx, &container.Config{
		Image: img.ID, User: uid, Env: append(HostEnv(os.Environ()), "HOME="+home), WorkingDir: "/tmp",
		Entrypoint: []string{"/bin/sh", "-c", script}, AttachStdout: true, AttachStderr: true,
		Labels: map[string]string{"berth.session": "test"},
	}, &container.HostConfig{
		AutoRemove: true, Mounts: binds, CapDrop: []string{"ALL"}, NetworkMode: "none",
	}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		_ = eng.ContainerRemove(ctx, created.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	})
	stream, err := eng.ContainerAttach(ctx, created.ID, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	exit, failed := eng.ContainerWait(ctx, created.ID, container.WaitConditionRemoved)
	if err := eng.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, stream.Reader); err != nil {
		t.Fatal(err)
	}
	select {
	case res := <-exit:
		return out.String(), res.StatusCode
	case err := <-failed:
		t.Fatal(err)
	}
	return "", 0
}

func TestHostImageRunsTheToolsOfTheHost(t *testing.T) {
	eng := realEngine(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range []string{"0:0", "12345:12345"} {
		t.Run(uid, func(t *testing.T) {
			home := t.TempDir() // a user's toolchains are in a directory of that user; here the system's are at stake
			// Built rather than only run: a compiler needs its library, a linker, and a place to write.
			script := `set -e; export GOCACHE=/tmp/gocache GOFLAGS=-mod=mod
				id -u; git --version; python3 -c 'import ssl, json; print("py", ssl.create_default_context().cert_store_stats()["x509_ca"] > 0)'
				printf 'package main\nfunc main() { println("built") }\n' > main.go; go run main.go
				ls /etc/ssl/certs | wc -l; date +%Z; sh -c 'echo ok > /var/tmp/x && cat /var/tmp/x'`
			for _, tool := range []string{"git", "python3", "go"} {
				if _, err := exec.LookPath(tool); err != nil {
					t.Fatalf("this test needs %s: %v", tool, err)
				}
			}
			out, code := runHost(t, eng, uid, home, script)
			for _, want := range []string{strings.SplitN(uid, ":", 2)[0], "git version", "py True", "built", "ok"} {
				if code != 0 || !strings.Contains(out, want) {
					t.Fatalf("exit %d, want %q in:\n%s", code, want, out)
				}
			}
		})
	}
	t.Run("toolchains at home", func(t *testing.T) {
		var script []string
		for _, tool := range []string{"cargo", "python3", "node"} {
			if path, err := exec.LookPath(tool); err == nil {
				script = append(script, path+" --version")
			}
		}
		out, code := runHost(t, eng, me.Uid+":"+me.Gid, me.HomeDir, strings.Join(script, " && "))
		if code != 0 || strings.Count(out, "\n") != len(script) {
			t.Fatalf("exit %d from %q:\n%s", code, script, out)
		}
	})
}

func TestHostImageHidesSecrets(t *testing.T) {
	eng := realEngine(t)
	home := t.TempDir()
	for _, name := range []string{".ssh/id", ".cargo/credentials.toml", ".cargo/bin/x", ".local/share/keyrings/login", ".local/bin/x", ".netrc"} {
		write(t, filepath.Join(home, name), "secret")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":"+home+"/.cargo/bin:"+home+"/.local/bin")
	script := `cd ` + home + ` && find . -type f | sort
		for f in /etc/shadow /etc/gshadow /etc/sudoers /etc/ssh /etc/docker /etc/ssl/private /etc/maven/settings.xml /etc/gitconfig \
			/etc/npmrc /etc/pip.conf /etc/kubernetes /etc/passwd- /var/run/docker.sock /root/.gitconfig; do
			[ -e $f ] && echo "visible: $f"; done
		for d in /usr /opt /etc/ssl/certs ` + home + `/.local/bin; do touch $d/x.berth 2>/dev/null && echo "writable: $d"; done
		true`
	out, code := runHost(t, eng, "0:0", home, script)
	if want := "./.cargo/bin/x\n./.local/bin/x\n"; code != 0 || out != want {
		t.Fatalf("exit %d, output:\n%swant:\n%s", code, out, want)
	}
}

func TestHostImageIsMadeOnce(t *testing.T) {
	eng := realEngine(t)
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() { // a resolver each, as in processes of their own
			img, err := NewResolver(eng).Resolve(t.Context(), Host, nil)
			if err != nil {
				t.Error(err)
			}
			ids[i] = img.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("different images: %q", ids)
		}
	}
	got, err := eng.ImageInspect(t.Context(), ids[0])
	if err != nil || got.Config.Labels["berth.image"] != "host" {
		t.Fatalf("label missing: %+v %v", got.Config, err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}
