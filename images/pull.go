package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// message is one line of what the engine says while it pulls or loads.
type message struct {
	ID       string `json:"id"` // of a layer, or a tag
	Status   string `json:"status"`
	Progress struct {
		Current, Total int64
	} `json:"progressDetail"`
	Error  string `json:"error"`
	Detail struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// messages reads such lines until the stream ends or carries an error.
func messages(stream io.Reader, each func(message)) error {
	for dec := json.NewDecoder(stream); ; {
		var m message
		switch err := dec.Decode(&m); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's progress: %w", err)
		case m.Detail.Message != "":
			return errors.New(m.Detail.Message)
		case m.Error != "":
			return errors.New(m.Error)
		}
		each(m)
	}
}

// pull fetches an image. Its error is a *NotFoundError, or that of an engine that does not answer.
func pull(ctx context.Context, eng Engine, ref, name string, report func(Progress)) error {
	if parsed, err := reference.ParseAnyReference(name); err == nil {
		if _, ok := parsed.(reference.Named); !ok {
			return &NotFoundError{Ref: ref, Reason: NoSuchImage, Cause: errors.New("an image ID cannot be pulled")}
		}
	}
	report(Progress{Ref: ref, Status: "Pulling"})
	// No RegistryAuth: only what needs no login.
	stream, err := eng.ImagePull(ctx, name, image.PullOptions{})
	if err == nil {
		defer stream.Close()
		sum := tally{ref: ref, layers: map[string]*layer{}}
		err = messages(stream, func(m message) { report(sum.add(m)) })
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("pull image %q: %w", ref, context.Cause(ctx))
	case client.IsErrConnectionFailed(err):
		return fmt.Errorf("pull image %q: %w", ref, err)
	}
	return &NotFoundError{Ref: ref, Reason: reason(err), Cause: err}
}

// tally adds up the layers of one pull.
type tally struct {
	ref    string
	layers map[string]*layer
}

type layer struct{ current, total int64 }

func (t *tally) add(m message) Progress {
	switch m.Status {
	case "Downloading":
		if m.Progress.Total > 0 {
			t.layers[m.ID] = &layer{m.Progress.Current, m.Progress.Total}
		}
	case "Verifying Checksum", "Download complete", "Extracting", "Pull complete":
		// Extracting counts the same bytes a second time; here it only means that all of them have come.
		if l := t.layers[m.ID]; l != nil {
			l.current = l.total
		}
	}
	p := Progress{Ref: t.ref, Status: m.Status}
	for _, l := range t.layers {
		p.Current += l.current
		p.Total += l.total
	}
	return p
}

// reason tells why a pull failed. Engines give status codes to some failures and mere text, with status 500 or
// inside the stream, to others; this is the one place that reads that text.
func reason(err error) Reason {
	text := strings.ToLower(err.Error())
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("unauthorized", "authentication required", "no basic auth credentials", "forbidden"):
		return Unauthorised
	case errdefs.IsNotFound(err), has("not found", "manifest unknown", "name unknown", "pull access denied"):
		return NoSuchImage
	case errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err), has("denied"):
		return Unauthorised
	case has("dial tcp", "lookup ", "no such host", "timeout", "connection refused", "connection reset", "network is unreachable", "tls:", "x509:", "http response to https", "eof"):
		return Unreachable
	}
	return PullFailed
}
