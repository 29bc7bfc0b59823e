//go:build linux

package main

import (
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"berth/runner/control"
)

const (
	dialTimeout = 5 * time.Second
	// Listeners are looked for often while a job is young and somebody is
	// likely to wait for its server, and at leisure later.
	watchEagerly  = 50 * time.Millisecond
	watchCalmly   = 250 * time.Millisecond
	watchEagerFor = 10 * time.Second
)

// forwardPorts listens on the private port of each pair, which the engine
// publishes, and connects callers with the program. So a server is reachable
// that listens on the container's loopback only, and the port it wants is
// never taken by us.
func forwardPorts(ports []control.Port) {
	for _, p := range ports {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(p.Private))
		if err != nil {
			continue // no IPv4 and no IPv6 in the container: nothing can call
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					time.Sleep(watchEagerly) // out of descriptors; they come back
					continue
				}
				go forward(conn.(*net.TCPConn), p.Port)
			}
		}()
	}
}

// forward copies both ways until both have ended. A direction that ends is
// closed on the other side at once, and the other one goes on.
func forward(caller *net.TCPConn, port int) {
	defer caller.Close()
	program, err := dialProgram(caller, port)
	if err != nil {
		caller.SetLinger(0) // a reset, as from a port that nobody listens on
		return
	}
	defer program.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(program, caller)
	}()
	copyHalf(caller, program)
	<-done
}

func copyHalf(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		from.CloseRead() // the writer of from learns that nobody takes more
	}
	to.CloseWrite()
}

// dialProgram tries every address that a server in the container may have
// chosen: loopback, and the container's own, by which the caller came.
func dialProgram(caller *net.TCPConn, port int) (conn *net.TCPConn, err error) {
	own, _, _ := net.SplitHostPort(caller.LocalAddr().String())
	for _, host := range []string{"127.0.0.1", "::1", own} {
		c, e := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(port)), dialTimeout)
		if e == nil {
			return c.(*net.TCPConn), nil
		}
		err = e
	}
	return nil, err
}

// watchListeners reports the TCP ports that programs of the job begin and
// cease to listen on. The kernel's table is read instead of connecting: a
// connection would be noticed, and taken by a server that serves but one.
func watchListeners(private []control.Port, report func(control.Message)) {
	known := map[int]bool{}
	for begun := time.Now(); ; {
		now := map[int]bool{}
		for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			addListeners(now, table)
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
		if time.Since(begun) < watchEagerFor {
			time.Sleep(watchEagerly)
		} else {
			time.Sleep(watchCalmly)
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
