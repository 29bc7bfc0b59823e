package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"

	"berth/runner"
	"berth/runner/logstore"
)

// Client uses a session that another process keeps. Errors of the session
// arrive as *runner.Explained.
type Client struct {
	info runner.Info
	http *http.Client
}

var _ runner.Service = (*Client)(nil)

// Dial makes a client of a live session. It connects with each call, not here.
// The caller closes it.
func Dial(info runner.Info) *Client {
	c := &Client{info: info}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	return c
}

// Close gives up idle connections. Calls under way go on.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", c.info.Socket)
}

// post makes a call. The caller closes the body.
func (c *Client) post(ctx context.Context, call string, q any) (io.ReadCloser, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://keeper/v1/"+call, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.broken(ctx)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, fault(response.Body)
	}
	return response.Body, nil
}

// ask makes a call with one answer.
func ask[A any](ctx context.Context, c *Client, call string, q any) (a A, err error) {
	body, err := c.post(ctx, call, q)
	if err != nil {
		return a, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&a); err != nil {
		return a, c.broken(ctx)
	}
	return a, nil
}

// broken is what a failed connection means: the keeper is gone, unless the
// caller gave up.
func (c *Client) broken(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &runner.EndedError{Session: c.info.ID}
}

// fault reads an error that the session has answered with.
func fault(r io.Reader) error {
	var e runner.Explained
	if err := json.NewDecoder(r).Decode(&e); err != nil || e.Text == "" {
		return errors.Join(errors.New("the session's keeper answered something unreadable"), err)
	}
	return &e
}

// Info describes the session.
func (c *Client) Info(ctx context.Context) (runner.Info, error) {
	return ask[runner.Info](ctx, c, callInfo, empty{})
}

// Run begins a job.
func (c *Client) Run(ctx context.Context, spec runner.Spec, events func(runner.Event)) (runner.Record, error) {
	if err := spec.Validate(); err != nil { // also what JSON would distort
		return runner.Record{}, err
	}
	body, err := c.post(ctx, callRun, newRunArg(spec))
	if err != nil {
		return runner.Record{}, err
	}
	defer body.Close()
	for lines := json.NewDecoder(body); ; {
		var l runLine
		if err := lines.Decode(&l); err != nil {
			return runner.Record{}, c.broken(ctx)
		}
		switch {
		case l.Error != nil:
			return runner.Record{}, l.Error
		case l.Record != nil:
			// To the end: a connection that breaks before it means to the keeper
			// that nobody has learnt of the job.
			io.Copy(io.Discard, body)
			return c.info.Place(*l.Record), nil
		case l.Event != nil && events != nil:
			events(*l.Event)
		}
	}
}

// List returns the records of all jobs.
func (c *Client) List(ctx context.Context) ([]runner.Record, error) {
	records, err := ask[[]runner.Record](ctx, c, callList, empty{})
	return c.placeAll(records), err
}

// Get returns one job's record.
func (c *Client) Get(ctx context.Context, job string) (runner.Record, error) {
	r, err := ask[runner.Record](ctx, c, callGet, jobArg{job})
	return c.info.Place(r), err
}

// Log opens a job's output, which is a matter of files.
func (c *Client) Log(ctx context.Context, job string) (*logstore.Reader, error) {
	r, err := c.Get(ctx, job)
	if err != nil {
		return nil, err
	}
	return logstore.Open(r.LogDir())
}

// Wait waits for jobs.
func (c *Client) Wait(ctx context.Context, r runner.WaitRequest) (runner.WaitResult, error) {
	result, err := ask[runner.WaitResult](ctx, c, callWait, r)
	for i := range result.Jobs {
		result.Jobs[i].Record = c.info.Place(result.Jobs[i].Record)
	}
	return result, err
}

// Signal sends a signal to a job.
func (c *Client) Signal(ctx context.Context, job string, number int) error {
	_, err := ask[empty](ctx, c, callSignal, signalArg{job, number})
	return err
}

// Kill ends jobs.
func (c *Client) Kill(ctx context.Context, r runner.KillRequest) ([]runner.Record, error) {
	records, err := ask[[]runner.Record](ctx, c, callKill, r)
	return c.placeAll(records), err
}

// End ends the session.
func (c *Client) End(ctx context.Context, by string) error {
	_, err := ask[empty](ctx, c, callEnd, endArg{by})
	return err
}

func (c *Client) placeAll(records []runner.Record) []runner.Record {
	for i := range records {
		records[i] = c.info.Place(records[i])
	}
	return records
}
