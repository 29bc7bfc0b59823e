package control

import "bytes"

// Marker returns the bytes that precede each of init's messages within a
// stream of output.
func Marker(nonce string) []byte {
	return []byte("\x1eberth " + nonce + " ")
}

// Filter takes init's frames out of one of the container's two streams. What
// is written to it arrives at Output without the frames, byte for byte, and at
// Frame without the output, in order. A marker with another nonce is output.
// It is for one goroutine.
type Filter struct {
	Output func(p []byte) // p is valid during the call only
	Frame  func(m Message)

	marker []byte
	held   []byte // the beginning of what may be a frame, not yet decided
}

// NewFilter returns a filter for the frames of the init that was given nonce.
func NewFilter(nonce string, output func([]byte), frame func(Message)) *Filter {
	return &Filter{Output: output, Frame: frame, marker: Marker(nonce)}
}

// Write never fails. It works in bulk: searching for the marker costs little
// beside the write to the log that follows.
func (f *Filter) Write(p []byte) (int, error) {
	n := len(p)
	if len(f.held) > 0 {
		p = append(f.held, p...)
		f.held = nil
	}
	for len(p) > 0 {
		i := bytes.Index(p, f.marker)
		if i < 0 {
			keep := f.partial(p)
			f.output(p[:len(p)-keep])
			f.hold(p[len(p)-keep:])
			break
		}
		f.output(p[:i])
		line := p[i+len(f.marker):]
		end := bytes.IndexByte(line, '\n')
		if end < 0 {
			f.hold(p[i:])
			break
		}
		if m, err := Parse(line[:end]); err == nil {
			f.Frame(m)
		}
		p = line[end+1:]
	}
	return n, nil
}

// Flush gives out what was held back. Call it once, at the end of the stream.
func (f *Filter) Flush() {
	f.output(f.held)
	f.held = nil
}

func (f *Filter) output(p []byte) {
	if len(p) > 0 {
		f.Output(p)
	}
}

func (f *Filter) hold(p []byte) {
	if len(p) > 0 {
		f.held = append([]byte(nil), p...)
	}
}

// partial returns how many bytes at the end of p could begin a marker.
func (f *Filter) partial(p []byte) int {
	from := max(0, len(p)-len(f.marker)+1)
	for {
		i := bytes.IndexByte(p[from:], f.marker[0])
		if i < 0 {
			return 0
		}
		from += i
		if bytes.HasPrefix(f.marker, p[from:]) {
			return len(p) - from
		}
		from++
	}
}
