package keeper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

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
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			defer cancel() // the client has left
			defer feed.Close()
			receive(buffered.Reader, feed, sizes)
		}()
		out := &frameWriter{w: conn}
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
		input.Close() // a feeder that is blocked goes on
		conn.Close()
		<-gone
	}
}

// receive hands the client's frames on until its connection ends.
func receive(r io.Reader, feed *io.PipeWriter, sizes chan runner.Size) {
	for {
		kind, p, err := readFrame(r)
		if err != nil {
			return
		}
		switch kind {
		case frameInput:
			feed.Write(p) // fails when the command has ended, which the client learns anyway
		case frameInputEnd:
			feed.Close()
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
		return 0, c.broken(ctx, err)
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
		return 0, c.broken(ctx, err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return 0, c.broken(ctx, err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return 0, fault(response.Body)
	}

	out := &frameWriter{w: conn}
	if r.Stdin {
		go func() { // ends with the input, or with the connection at its next byte
			io.Copy(out.stream(frameInput), stdio.Stdin)
			out.write(frameInputEnd, nil)
		}()
	}
	over := make(chan struct{})
	defer close(over)
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
			return 0, c.broken(ctx, err)
		}
		switch kind {
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
