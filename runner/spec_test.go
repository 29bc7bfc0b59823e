package runner

import (
	"errors"
	"math"
	"testing"
	"time"
)

func TestParsePort(t *testing.T) {
	for text, want := range map[string]PortSpec{
		"4040":        {Port: 4040, Proto: "tcp"},
		"8080:4040":   {Port: 4040, Host: 8080, Proto: "tcp"},
		"53/udp":      {Port: 53, Proto: "udp"},
		"5353:53/udp": {Port: 53, Host: 5353, Proto: "udp"},
		"1:65535/tcp": {Port: 65535, Host: 1, Proto: "tcp"},
	} {
		if got, err := ParsePort(text); got != want || err != nil {
			t.Errorf("ParsePort(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65536", "-1", "+1", "a", "1:", ":1", "1:2:3", "80/sctp", "80/", "127.0.0.1:80:80", " 80"} {
		var invalid *InvalidError
		if got, err := ParsePort(text); !errors.As(err, &invalid) || invalid.Hint == "" {
			t.Errorf("ParsePort(%q) = %+v, %v, want an InvalidError", text, got, err)
		}
	}
}

func TestParseCondition(t *testing.T) {
	for _, text := range []string{"exit", "port:4040", "text:ready|done", "text:a:b", "http:80/", "http:80/health?x=1", "quiet:5s"} {
		if c, err := ParseCondition(text); err != nil || c.String() != text {
			t.Errorf("ParseCondition(%q) = %q, %v", text, c, err)
		}
	}
	for _, text := range []string{"port", "port:", "port:x", "port:0", "text:", "text:(", "http:", "http:/x", "quiet:", "quiet:-1s", "quiet:5", "frob:1", "exit:0"} {
		var invalid *InvalidError
		if c, err := ParseCondition(text); !errors.As(err, &invalid) || invalid.Hint == "" {
			t.Errorf("ParseCondition(%q) = %q, %v, want an InvalidError", text, c, err)
		}
	}
}

func TestHandleBase(t *testing.T) {
	for _, test := range []struct {
		argv []string
		want string
	}{
		{[]string{"go", "test"}, "go"},
		{[]string{"/usr/bin/python3", "-m", "http.server"}, "python3"},
		{Shell("CI=1 npm test && echo done"), "npm"},
		{Shell("env A=1 exec ./bin/server"), "server"},
		{Shell("((("), "job"},
		{[]string{"a-name-that-is-much-too-long-for-a-handle"}, "a-name-that-is-much-"},
		{[]string{"ünï.sh"}, "n--sh"},
	} {
		if got := (&Spec{Argv: test.argv}).handleBase(); got != test.want {
			t.Errorf("handleBase of %q is %q, want %q", test.argv, got, test.want)
		}
	}
}

func TestJobHome(t *testing.T) {
	for _, test := range []struct{ home, user, want string }{
		{"/home/ann", "ann", "/home/ann"},
		{"/home/ann/", "ann", "/home/ann"},
		{"/tmp/x", "ann", "/tmp/x"},
		{"/opt/ann", "ann", "/opt/ann"},
		{"", "root", "/root"},
		{"/", "daemon", "/home/daemon"},
		{"relative", "ann", "/home/ann"},
		{"/usr/lib", "ann", "/home/ann"},
		{"/dev/null", "ann", "/home/ann"},
		{"/tmp", "ann", "/home/ann"},
		{"/proc", "root", "/root"},
	} {
		if got := jobHome(test.home, test.user); got != test.want {
			t.Errorf("jobHome(%q, %q) = %q, want %q", test.home, test.user, got, test.want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	for _, test := range []struct {
		exit Exit
		want int
	}{
		{Exit{Reason: ReasonExited, Code: 7}, 7},
		{Exit{Reason: ReasonTimeout, Code: 143}, 124},
		{Exit{Reason: ReasonKilled, Code: 0}, 143},
		{Exit{Reason: ReasonKilled, Code: 137, Signal: 9}, 137},
		{Exit{Reason: ReasonOOM, Code: 137, Signal: 9}, 137},
		{Exit{Reason: ReasonLost}, 125},
		{Exit{Reason: ReasonStartFailed, Code: 127}, 127},
	} {
		if got := test.exit.Status(); got != test.want {
			t.Errorf("status of %+v is %d, want %d", test.exit, got, test.want)
		}
	}
}

func TestSpecValidate(t *testing.T) {
	good := Spec{Argv: []string{"true"}, Dir: "/", Name: "web.1", Env: []string{"A="}, Timeout: time.Second,
		Setup: &Setup{Run: "make", Key: []string{"*.lock"}}, Carry: Carry{Paths: []string{".env", "a/b"}},
		Limits: Limits{CPUs: 0.5, Memory: 64 << 20, Pids: 100}, Network: "none"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Spec){
		"no command":        func(s *Spec) { s.Argv = nil },
		"empty command":     func(s *Spec) { s.Argv = []string{"", "x"} },
		"empty line":        func(s *Spec) { s.Argv = Shell("  ") },
		"zero byte":         func(s *Spec) { s.Argv = []string{"a\x00b"} },
		"name with a slash": func(s *Spec) { s.Name = "a/b" },
		"name like an ID":   func(s *Spec) { s.Name = "01M821WGPFG8ZB44BJYDD77H68" },
		"relative dir":      func(s *Spec) { s.Dir = "x" },
		"dir not UTF-8":     func(s *Spec) { s.Dir = "/\xff" },
		"env without =":     func(s *Spec) { s.Env = []string{"A"} },
		"negative timeout":  func(s *Spec) { s.Timeout = -1 },
		"tiny timeout":      func(s *Spec) { s.Timeout = time.Microsecond },
		"live with a ref":   func(s *Spec) { s.Live, s.Ref = true, "main" },
		"a port twice":      func(s *Spec) { s.Ports = []PortSpec{{Port: 1, Proto: "tcp"}, {Port: 1, Proto: "tcp"}} },
		"a host port twice": func(s *Spec) {
			s.Ports = []PortSpec{{Port: 1, Host: 9, Proto: "tcp"}, {Port: 2, Host: 9, Proto: "tcp"}}
		},
		"setup without a command":  func(s *Spec) { s.Setup = &Setup{Run: " "} },
		"a key that leads out":     func(s *Spec) { s.Setup = &Setup{Run: "x", Key: []string{"../*"}} },
		"a key that is no pattern": func(s *Spec) { s.Setup = &Setup{Run: "x", Key: []string{"["}} },
		"carry off with paths":     func(s *Spec) { s.Carry = Carry{Off: true, Paths: []string{"a"}} },
		"carry that leads out":     func(s *Spec) { s.Carry.Paths = []string{"a", "b/../../c"} },
		"carry of git's files":     func(s *Spec) { s.Carry.Paths = []string{".git/config"} },
		"negative cpus":            func(s *Spec) { s.Limits.CPUs = -1 },
		"cpus that are none":       func(s *Spec) { s.Limits.CPUs = math.NaN() },
		"little memory":            func(s *Spec) { s.Limits.Memory = 1 << 20 },
		"few processes":            func(s *Spec) { s.Limits.Pids = 3 },
		"an unknown network":       func(s *Spec) { s.Network = "some" },
		"a port without network": func(s *Spec) {
			s.Network, s.Ports = "none", []PortSpec{{Port: 1, Proto: "tcp"}}
		},
		"a private port": func(s *Spec) { s.Ports = []PortSpec{{Port: 61000, Proto: "tcp"}} },
	} {
		spec := good
		change(&spec)
		var invalid *InvalidError
		if err := spec.Validate(); !errors.As(err, &invalid) {
			t.Errorf("%s: %v, want an InvalidError", what, err)
		}
	}
}
