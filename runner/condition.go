package runner

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/configs"
	"berth/runner/frugal"
)

// Condition is what a wait waits for, besides the job's end, which always ends
// it too. The zero value waits for the end alone.
type Condition struct {
	Kind  string         `json:"kind,omitempty"` // "", "exit", "port", "text", "http", "quiet"
	Port  int            `json:"port,omitempty"` // for port and http
	Path  string         `json:"path,omitempty"` // for http, with its slash
	Text  string         `json:"text,omitempty"` // for text, a regular expression
	Quiet time.Duration  `json:"quiet,omitempty"`
	text  *regexp.Regexp // Text, compiled by prepare
}

const (
	// httpEvery is the pause between two tries of an http condition.
	httpEvery = 100 * time.Millisecond
	// httpDeadline bounds one try.
	httpDeadline = 5 * time.Second
	// longestLine is how much of an unfinished line a text condition looks at.
	longestLine = 64 << 10
)

// ParseCondition reads exit, port:4040, text:REGEX, http:4040/path, quiet:5s.
func ParseCondition(s string) (Condition, error) {
	kind, rest, _ := strings.Cut(s, ":")
	c := Condition{Kind: kind}
	var err error
	switch kind {
	case "", "exit":
		if rest != "" {
			err = fmt.Errorf("exit takes nothing more")
		}
	case "port":
		c.Port, err = configs.ParsePortNumber(rest)
	case "text":
		c.Text = rest
		if rest == "" {
			err = fmt.Errorf("the text is empty")
		}
	case "http":
		port, path, _ := strings.Cut(rest, "/")
		c.Path = "/" + path
		c.Port, err = configs.ParsePortNumber(port)
	case "quiet":
		if c.Quiet, err = time.ParseDuration(rest); err != nil || c.Quiet <= 0 {
			err = fmt.Errorf("%q is not a duration such as 5s", rest)
		}
	default:
		err = fmt.Errorf("%q is none of the kinds", kind)
	}
	if err == nil {
		err = c.prepare()
	}
	if err != nil {
		return Condition{}, &InvalidError{What: "condition", Value: s, Why: err.Error(),
			Hint: "use exit, port:4040, text:REGEX, http:4040/path or quiet:5s"}
	}
	return c, nil
}

func (c *Condition) prepare() (err error) {
	if c.Kind == "text" {
		c.text, err = regexp.Compile(c.Text)
	}
	return err
}

// String is the form that ParseCondition reads.
func (c Condition) String() string {
	switch c.Kind {
	case "port":
		return "port:" + strconv.Itoa(c.Port)
	case "text":
		return "text:" + c.Text
	case "http":
		return "http:" + strconv.Itoa(c.Port) + c.Path
	case "quiet":
		return "quiet:" + c.Quiet.String()
	}
	return "exit"
}

// Wait waits for jobs; see [Service].
func (s *Session) Wait(ctx context.Context, r WaitRequest) (WaitResult, error) {
	defer s.use()()
	if err := r.Until.prepare(); err != nil {
		return WaitResult{}, &InvalidError{What: "condition", Value: r.Until.String(), Why: err.Error()}
	}
	jobs := make([]*job, len(r.Jobs))
	for i, name := range r.Jobs {
		j, err := s.find(name)
		if err != nil {
			return WaitResult{}, err
		}
		if err := r.Until.Possible(j.spec.Ports, j.record.Handle); err != nil {
			return WaitResult{}, err
		}
		jobs[i] = j
	}
	type outcome struct {
		index  int
		waited Waited
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make(chan outcome, len(jobs))
	for i, j := range jobs {
		go func() {
			w, err := j.wait(ctx, r.Until)
			outcomes <- outcome{i, w, err}
		}()
	}
	found := make([]*Waited, len(jobs))
	var err error
	for range jobs {
		// All are waited for, also those that are cancelled: none is left behind.
		o := <-outcomes
		switch {
		case o.err == nil:
			found[o.index] = &o.waited
			if r.Any {
				cancel()
			}
		case err == nil:
			err = o.err
			cancel()
		}
	}
	cancel()
	var result WaitResult
	for _, w := range found {
		if w != nil {
			result.Jobs = append(result.Jobs, *w)
		}
	}
	if r.Any && len(result.Jobs) > 0 {
		err = nil
	}
	return result, err
}

// Possible tells what can never hold of a job with these ports: an *[InvalidError].
func (c Condition) Possible(ports []PortSpec, job string) error {
	if c.Kind != "http" || slices.ContainsFunc(ports, func(p PortSpec) bool { return p.Port == c.Port && p.Proto == "tcp" }) {
		return nil
	}
	return &InvalidError{What: "condition", Value: c.String(),
		Why: fmt.Sprintf("port %d of %s is not published", c.Port, job), Hint: fmt.Sprintf("run it with -p %d", c.Port)}
}

// wait returns when the condition holds or the job has ended. What happened
// before the call counts, so there is no race with a quick job.
func (j *job) wait(ctx context.Context, c Condition) (Waited, error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-j.ended:
			cancel()
		case <-running.Done():
		}
	}()
	if j.holds(running, c) {
		return Waited{Record: j.Record(), Matched: c.String()}, nil
	}
	select {
	case <-j.ended:
		return Waited{Record: j.Record(), Matched: "exit"}, nil
	default:
		return Waited{}, ctx.Err()
	}
}

// holds blocks until the condition holds, or returns false when running is
// over before that.
func (j *job) holds(running context.Context, c Condition) bool {
	switch c.Kind {
	case "port":
		return j.listens(running, c.Port)
	case "text":
		return j.prints(running, c.text)
	case "http":
		return j.listens(running, c.Port) && j.answers(running, c)
	case "quiet":
		return j.quiet(running, c.Quiet)
	}
	<-running.Done()
	return false
}

func (j *job) listens(running context.Context, port int) bool {
	return j.reaches(running, func(r Record) bool { return slices.Contains(r.Listening, port) })
}

// reaches blocks until the record is as wanted.
func (j *job) reaches(running context.Context, wanted func(Record) bool) bool {
	for {
		r, changed := j.watch()
		if wanted(r) {
			return true
		}
		select {
		case <-changed:
		case <-running.Done():
			return false
		}
	}
}

// prints looks for a line that matches, from the first byte of the log on,
// also in what is not a whole line yet: a prompt has no newline.
func (j *job) prints(running context.Context, text *regexp.Regexp) bool {
	reader := j.log.Reader()
	var lines [3]string // the unfinished line of each stream
	for cursor, over := int64(0), false; ; {
		chunks, next, err := reader.ReadFrom(cursor, 1<<20, 0)
		if err != nil {
			return false
		}
		for _, c := range chunks {
			if c.Gap > 0 {
				lines = [3]string{}
				continue
			}
			rest := lines[c.Stream] + string(c.Data)
			for line := range strings.Lines(rest) {
				if text.Match(bytes.TrimSuffix(frugal.Clean([]byte(line)), []byte("\n"))) {
					return true
				}
			}
			rest = rest[strings.LastIndexByte(rest, '\n')+1:]
			lines[c.Stream] = rest[max(0, len(rest)-longestLine):]
		}
		if next > cursor {
			cursor = next
			continue
		}
		if over {
			return false
		}
		// When waiting ends without more, there is one last look.
		more, err := reader.Wait(running, cursor)
		over = !more || err != nil
	}
}

// answers asks the program until it answers with success or a redirection.
func (j *job) answers(running context.Context, c Condition) bool {
	client := &http.Client{
		Timeout:       httpDeadline,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	r := j.Record()
	i := slices.IndexFunc(r.Ports, func(p Port) bool { return p.Port == c.Port && p.Proto == "tcp" })
	if i < 0 {
		return false
	}
	for {
		request, err := http.NewRequestWithContext(running, http.MethodGet, "http://"+r.Ports[i].Host+c.Path, nil)
		if err != nil {
			return false
		}
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode < 400 {
				return true
			}
		}
		select {
		case <-time.After(httpEvery):
		case <-running.Done():
			return false
		}
	}
}

// quiet waits until nothing was printed for a while, counted from the start
// of the wait, or of the command, at the earliest.
func (j *job) quiet(running context.Context, d time.Duration) bool {
	if !j.reaches(running, func(r Record) bool { return r.State != Preparing }) {
		return false
	}
	reader := j.log.Reader()
	for {
		size := j.log.Size()
		pause, cancel := context.WithTimeout(running, d)
		more, err := reader.Wait(pause, size)
		cancel()
		switch {
		case running.Err() != nil || err == nil && !more:
			return false
		case err != nil: // the pause is over
			return true
		}
	}
}
