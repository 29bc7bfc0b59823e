//go:build linux

// Prog is what the engine tests run inside a job where a shell does not do: a
// server, a job that attacks its init, and one that leaves files of root's.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	switch os.Args[1] {
	case "serve": // ADDRESS TEXT
		fmt.Println(http.ListenAndServe(os.Args[2], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, os.Args[3])
		})))
		os.Exit(1)
	case "echo": // ADDRESS: answers with what it got once the caller has closed its side
		l, err := net.Listen("tcp", os.Args[2])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for {
			c, err := l.Accept()
			if err != nil {
				os.Exit(1)
			}
			go func() {
				var all bytes.Buffer
				all.ReadFrom(c)
				c.Write(all.Bytes())
				c.Close()
			}()
		}
	case "layers": // DIR
		if err := layers(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "attack":
		attacks[os.Args[2]]()
	}
}

// layers makes an upper and a lower layer as overlayfs leaves them, with files
// of root's that nobody else may see. Attributes of a file server would be lost
// on a test of them, so they are set here, in the kernel's words.
func layers(dir string) error {
	upper, lower := dir+"/upper", dir+"/lower"
	return errors.Join(
		os.MkdirAll(lower+"/old/sub", 0o755),
		os.WriteFile(lower+"/old/sub/file", []byte("below"), 0o644),
		os.MkdirAll(lower+"/emptied", 0o755),
		os.WriteFile(lower+"/emptied/hidden", nil, 0o644),
		os.WriteFile(lower+"/deleted", nil, 0o644),
		os.WriteFile(lower+"/untouched", nil, 0o644),

		os.MkdirAll(upper+"/renamed", 0o755),
		unix.Setxattr(upper+"/renamed", "trusted.overlay.redirect", []byte("/old"), 0),
		unix.Mknod(upper+"/old", unix.S_IFCHR, 0),
		unix.Mknod(upper+"/deleted", unix.S_IFCHR, 0),
		os.MkdirAll(upper+"/emptied", 0o755),
		unix.Setxattr(upper+"/emptied", "trusted.overlay.opaque", []byte("y"), 0),
		os.MkdirAll(upper+"/locked/in", 0o755),
		os.WriteFile(upper+"/locked/in/secret \xff\n", []byte("of root's"), 0o600),
		os.Chmod(upper+"/locked/in", 0),
		os.Chmod(upper+"/locked", 0),
		os.MkdirAll(dir+"/sticky/of others", 0o755),
		os.WriteFile(dir+"/sticky/of others/file", nil, 0),
		os.Chown(dir+"/sticky/of others", 4242, 4242),
		os.Chown(dir+"/sticky", 4241, 4241),
		os.Chmod(dir+"/sticky", 0o777|os.ModeSticky),
	)
}

// An attack prints BREACH and what it got if it succeeds.
var attacks = map[string]func(){
	"read":    read,
	"trace":   trace,
	"signal":  signals,
	"limit":   limits,
	"flags":   flags,
	"openall": openAll,
}

func try(what string, err error) {
	if err == nil {
		fmt.Println("BREACH:", what)
	} else {
		fmt.Println("refused:", what+":", err)
	}
}

// read opens everything of init that could hold its nonce.
func read() {
	for _, name := range []string{"mem", "environ", "maps", "auxv", "stack", "syscall", "fdinfo/0", "map_files"} {
		_, err := os.ReadFile("/proc/1/" + name)
		if name == "mem" {
			_, err = os.Open("/proc/1/mem")
		}
		try("read /proc/1/"+name, err)
	}
	for _, mode := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR} {
		for fd := range 12 {
			_, err := os.OpenFile("/proc/1/fd/"+strconv.Itoa(fd), mode|unix.O_NONBLOCK, 0)
			try(fmt.Sprintf("open descriptor %d with %d", fd, mode), err)
		}
	}
}

// trace uses the system calls that reach into another process.
func trace() {
	try("ptrace attach", unix.PtraceAttach(1))
	try("ptrace seize", unix.PtraceSeize(1))
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	_, err := unix.ProcessVMReadv(1, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	try("process_vm_readv", err)
	_, err = unix.ProcessVMWritev(1, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	try("process_vm_writev", err)
	fd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		try("pidfd_open", err)
		return
	}
	for target := range 12 {
		_, err = unix.PidfdGetfd(fd, target, 0)
		try(fmt.Sprintf("pidfd_getfd %d", target), err)
	}
}

// signals sends init every signal in every way, with a forged origin as well.
// It must outlive that: what init hands on to its job is ignored here.
func signals() {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	for n := syscall.Signal(1); n <= 64; n++ {
		unix.Kill(1, n)
		unix.Tgkill(1, 1, n)
		for _, code := range []int32{-1 /* SI_QUEUE */, -2, -6, -60} {
			info := [128]byte{}
			*(*int32)(unsafe.Pointer(&info[0])) = int32(n)
			*(*int32)(unsafe.Pointer(&info[8])) = code
			unix.Syscall6(unix.SYS_RT_SIGQUEUEINFO, 1, uintptr(n), uintptr(unsafe.Pointer(&info)), 0, 0, 0)
			unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, 1, 1, uintptr(n), uintptr(unsafe.Pointer(&info)), 0, 0)
		}
	}
	fmt.Println("sent")
}

// limits tries to starve init.
func limits() {
	for name, resource := range map[string]int{"cpu": unix.RLIMIT_CPU, "nofile": unix.RLIMIT_NOFILE, "as": unix.RLIMIT_AS, "data": unix.RLIMIT_DATA} {
		try("prlimit "+name, unix.Prlimit(1, resource, &unix.Rlimit{}, nil))
	}
}

// flags makes its output non-blocking and writes more than fits.
func flags() {
	unix.SetNonblock(1, true)
	unix.SetNonblock(2, true)
	line := bytes.Repeat([]byte("x"), 1023)
	line = append(line, '\n')
	for written := 0; written < 8<<20; {
		n, err := unix.Write(1, line[written%1024:])
		if err == unix.EAGAIN {
			unix.Poll([]unix.PollFd{{Fd: 1, Events: unix.POLLOUT}}, -1)
			continue
		}
		written += n
	}
}

// openAll reopens its own descriptors: they are pipes of the job, not streams
// of the container, where init's frames could be read.
func openAll() {
	for _, name := range []string{"1", "2"} {
		fd, err := unix.Open("/proc/self/fd/"+name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			fmt.Println("refused:", err)
			continue
		}
		buf := make([]byte, 1<<16)
		for range 1000 {
			n, _ := unix.Read(fd, buf)
			if n > 0 && bytes.Contains(buf[:n], []byte("\x1eberth ")) {
				fmt.Printf("BREACH: %q\n", buf[:n])
			}
		}
	}
	fmt.Println("nothing found")
}
