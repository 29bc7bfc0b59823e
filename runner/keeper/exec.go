package keeper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"berth/runner"
)

// handleExec runs a further command in a job and relays its streams.
func handleExec(s *runner.Session) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q execArg
		if !decode(w, r, &q) {
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			refuse(w, err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+upgradeName+"\r\nConnection: Upgrade\r\n\r\n")

		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		input, feed := io.Pipe()
		sizes := make(chan runner.Size, 1)
		chunks := make(chan []byte, inputWindow)
		out := &frameWriter{w: conn}
		var relays sync.WaitGroup
		relays.Go(func() {
			defer cancel() // the client has left
			receive(buffered.Reader, chunks, sizes)
		})
		relays.Go(func() {
			defer feed.Close()
			for p := range chunks {
				feed.Write(p) // fails when the command has ended, which the client learns anyway
				out.write(frameTaken, nil)
			}
		})
		code, err := s.Exec(ctx, q.request(), runner.ExecIO{
			Stdin: input, Stdout: out.stream(frameStdout), Stderr: out.stream(frameStderr), Resize: sizes,
		})
		if err != nil {
			text, _ := json.Marshal(runner.Explain(err))
			out.write(frameFault, text)
		} else {
			text, _ := json.Marshal(code)
			out.write(frameExit, text)
		}
		input.Close() // a relay that is blocked goes on
		conn.Close()
		relays.Wait()
	}
}

// receive hands the client's frames on until its connection ends, and closes
// chunks at the end of the input. It never waits, as long as the client keeps
// to the window.
func receive(r io.Reader, chunks chan<- []byte, sizes chan runner.Size) {
	ended := false
	end := func() {
		if !ended {
			close(chunks)
		}
		ended = true
	}
	defer end()
	for {
		kind, p, err := readFrame(r)
		if err != nil {
			return
		}
		switch kind {
		case frameInput:
			if ended {
				return // no client of ours
			}
			select {
			case chunks <- p:
			default:
				return // no client of ours
			}
		case frameInputEnd:
			end()
		case frameResize:
			var size runner.Size
			if json.Unmarshal(p, &size) != nil {
				continue
			}
			select { // only the newest counts
			case <-sizes:
			default:
			}
			sizes <- size
		}
	}
}

// Exec runs a further command; see runner.Service.
func (c *Client) Exec(ctx context.Context, r runner.ExecRequest, stdio runner.ExecIO) (int, error) {
	body, err := json.Marshal(newExecArg(r))
	if err != nil {
		return 0, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, c.broken(ctx)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	request, err := http.NewRequest(http.MethodPost, "http://keeper/v1/"+callExec, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", upgradeName)
	if err := request.Write(conn); err != nil {
		return 0, c.broken(ctx)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return 0, c.broken(ctx)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return 0, fault(response.Body)
	}

	out := &frameWriter{w: conn}
	over := make(chan struct{})
	defer close(over)
	window := make(chan struct{}, inputWindow) // holds a token for each frame under way
	if r.Stdin {
		go func() { // ends with the input, or with the connection at its next byte
			sendInput(out, stdio.Stdin, window, over)
		}()
	}
	go func() {
		for {
			select {
			case size, ok := <-stdio.Resize:
				if !ok {
					return
				}
				text, _ := json.Marshal(size)
				out.write(frameResize, text)
			case <-over:
				return
			}
		}
	}()
	for {
		kind, p, err := readFrame(reader)
		if err != nil {
			return 0, c.broken(ctx)
		}
		switch kind {
		case frameTaken:
			<-window
		case frameStdout:
			_, err = stdio.Stdout.Write(p)
		case frameStderr:
			_, err = stdio.Stderr.Write(p)
		case frameExit:
			var code int
			err := json.Unmarshal(p, &code)
			return code, err
		case frameFault:
			return 0, fault(bytes.NewReader(p))
		}
		if err != nil {
			return 0, err
		}
	}
}

// sendInput sends what is read, within the window, and its end.
func sendInput(out *frameWriter, input io.Reader, window chan<- struct{}, over <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := input.Read(buf)
		if n > 0 {
			select {
			case window <- struct{}{}:
			case <-over:
				return
			}
			if out.write(frameInput, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			out.write(frameInputEnd, nil)
			return
		}
	}
}
