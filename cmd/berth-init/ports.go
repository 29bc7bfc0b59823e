//go:build linux

package main

import (
	"io"
	"net"
	"strconv"
	"time"

	"berth/runner/control"
)

const (
	dialTimeout = 5 * time.Second
	// acceptPause is waited when the process is out of descriptors, for some to
	// come back.
	acceptPause = 50 * time.Millisecond
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
					time.Sleep(acceptPause)
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
