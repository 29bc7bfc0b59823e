package runner

import (
	"strings"
	"testing"

	"berth/runner/logstore"
)

// TestLimits reads the limits that the engine has put on a job, and sees that
// the one of processes holds.
func TestLimits(t *testing.T) {
	h := newHarness(t)
	limited := func(s *Spec) { s.Limits = Limits{CPUs: 0.5, Memory: 64 << 20, Pids: 64} }
	r := h.until(h.start("echo ready; sleep 300", limited), "text:ready")
	c, err := h.eng.ContainerInspect(t.Context(), r.Container)
	if err != nil {
		t.Fatal(err)
	}
	got := c.HostConfig.Resources
	if got.NanoCPUs != 5e8 || got.Memory != 64<<20 || got.MemorySwap != 64<<20 || got.PidsLimit == nil || *got.PidsLimit != 64 {
		t.Errorf("got %+v", got)
	}
	many := h.start("i=0; while [ $i -lt 100 ]; do sleep 300 & i=$((i+1)); done; echo all", limited)
	if e := h.exit(many); e.OK() || strings.Contains(h.text(many, logstore.Stdout), "all") {
		t.Errorf("100 processes begun, ended with %v", e)
	}
	// The least that is allowed is enough, and more processors than there are
	// is all of them.
	if out := h.output("echo fine", func(s *Spec) { s.Limits = Limits{CPUs: 1e6, Memory: 6 << 20, Pids: 32} }); out != "fine\n" {
		t.Errorf("got %q", out)
	}
	if e := h.exit(h.start("x=x; while :; do x=$x$x; done", limited)); e.Reason != ReasonOOM {
		t.Errorf("a job that takes more memory than it may ended so: %v", e)
	}
}

func TestNetworkNone(t *testing.T) {
	h := newHarness(t)
	const line = "ls /sys/class/net"
	if got := h.output(line, func(s *Spec) { s.Network = "none" }); strings.Contains(got, "eth") || !strings.Contains(got, "lo\n") {
		t.Errorf("without a network there are %q", got)
	}
	if got := h.output(line); !strings.Contains(got, "eth0") {
		t.Errorf("with one there are %q", got)
	}
}
