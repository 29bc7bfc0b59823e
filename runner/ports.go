package runner

import (
	"net"
	"strconv"
	"sync"
)

// portTable remembers which ports of the host this session's jobs have or are
// about to get. Against everybody else there is only a look and a try.
type portTable struct {
	mu    sync.Mutex
	taken map[string]bool
}

// take reserves p.Host if nobody has it.
func (t *portTable) take(p PortSpec) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := p.Proto + strconv.Itoa(p.Host)
	if t.taken[key] || !t.free(p) {
		return false
	}
	if t.taken == nil {
		t.taken = map[string]bool{}
	}
	t.taken[key] = true
	return true
}

// release gives reserved ports back.
func (t *portTable) release(ports []PortSpec) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range ports {
		delete(t.taken, p.Proto+strconv.Itoa(p.Host))
	}
}

// free tells whether the host's port can be bound.
func (t *portTable) free(p PortSpec) bool {
	address := "127.0.0.1:" + strconv.Itoa(p.Host)
	if p.Proto == "udp" {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	l.Close()
	return true
}
