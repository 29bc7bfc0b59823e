//go:build linux

package main

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/runner/control"
)

const (
	// Listeners are looked for often while a job is young and somebody is
	// likely to wait for its server, and at leisure later.
	watchEagerly  = 50 * time.Millisecond
	watchCalmly   = 250 * time.Millisecond
	watchEagerFor = 10 * time.Second
	// watchByTable is the pause where the kernel has only its table to offer,
	// each reading of which costs milliseconds: it goes through every slot for
	// connections of the whole machine.
	watchByTable = 2 * time.Second
)

// watchListeners reports the TCP ports that programs of the job begin and
// cease to listen on. The kernel is asked instead of connecting: a connection
// would be noticed, and taken by a server that serves but one.
func watchListeners(private []control.Port, report func(control.Message)) {
	diag := openDiag()
	known := map[int]bool{}
	for begun := time.Now(); ; {
		pause := watchCalmly
		if time.Since(begun) < watchEagerFor {
			pause = watchEagerly
		}
		now := map[int]bool{}
		if !diag.listeners(now) {
			addListeners(now, "/proc/net/tcp")
			addListeners(now, "/proc/net/tcp6")
			pause = watchByTable
		}
		for _, p := range private {
			delete(now, p.Private)
		}
		for port := range now {
			if !known[port] {
				report(control.Message{Op: control.OpListening}.AddInt("port", port))
			}
		}
		for port := range known {
			if !now[port] {
				report(control.Message{Op: control.OpClosed}.AddInt("port", port))
			}
		}
		known = now
		time.Sleep(pause)
	}
}

// diag asks the kernel for sockets by netlink, see sock_diag(7): it goes
// through the listening ones alone.
type diag struct {
	fd    int // -1: not to be had
	reply []byte
}

func openDiag() *diag {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		fd = -1
	}
	return &diag{fd: fd, reply: make([]byte, 16<<10)}
}

// listeners adds the ports that are listened on. It returns false when the
// kernel does not tell.
func (d *diag) listeners(ports map[int]bool) bool {
	if !d.dump(unix.AF_INET, ports) {
		return false
	}
	d.dump(unix.AF_INET6, ports) // a kernel without IPv6 has none
	return true
}

func (d *diag) dump(family byte, ports map[int]bool) bool {
	const (
		headerSize = 16              // struct nlmsghdr
		size       = headerSize + 56 // struct inet_diag_req_v2
		stateMask  = 1 << 10         // TCP_LISTEN
		portAt     = headerSize + 4  // in struct inet_diag_msg, big-endian
		messageMin = headerSize + 4 + 2
	)
	if d.fd < 0 {
		return false
	}
	var request [size]byte
	binary.NativeEndian.PutUint32(request[0:], size)
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[headerSize], request[headerSize+1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[headerSize+4:], stateMask)
	if _, err := unix.Write(d.fd, request[:]); err != nil {
		return false
	}
	for {
		n, err := unix.Read(d.fd, d.reply)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < headerSize {
			return false
		}
		for m := d.reply[:n]; len(m) >= headerSize; {
			length := int(binary.NativeEndian.Uint32(m))
			switch kind := binary.NativeEndian.Uint16(m[4:]); {
			case kind == unix.NLMSG_DONE:
				return true
			case kind == unix.NLMSG_ERROR, length < headerSize, length > len(m):
				return false
			case kind == unix.SOCK_DIAG_BY_FAMILY && length >= messageMin:
				ports[int(binary.BigEndian.Uint16(m[portAt:]))] = true
			}
			m = m[min(len(m), (length+3)&^3):]
		}
	}
}

// addListeners adds the ports of sockets in state LISTEN (0A) of a table of
// the form "sl local_address rem_address st …", addresses as HEX:PORT.
func addListeners(ports map[int]bool, table string) {
	text, err := os.ReadFile(table)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "0A" {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
			ports[int(port)] = true
		}
	}
}
