package control

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestMessageRoundTrip(t *testing.T) {
	nasty := []string{"", " ", "a b", "ünïcode", "\x00\xff\xfe", "line\nbreak", `"quoted" \ =`, "\x1eberth x "}
	for _, value := range nasty {
		m := Message{Op: "op"}.Add("k", value).Add("k", "second").AddInt("n", -7)
		line := m.Append(nil)
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("%q: the line holds a newline: %q", value, line)
		}
		got, err := Parse(line)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%q came back as %v, %v", value, got, err)
		}
		if got.Get("k") != value || got.Int("n") != -7 || len(got.All("k")) != 2 {
			t.Errorf("%q: wrong arguments in %v", value, got)
		}
	}
}

func TestParseRefusesMalformedLines(t *testing.T) {
	for _, line := range []string{"", " ", "\n", "op k", "op k=", `op k="a`, `op k="a"b="c"`, `op ="a"`, `op k="a" `, `op k='a'`} {
		if m, err := Parse([]byte(line)); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", line, m)
		}
	}
}

func TestStartAndExitedRoundTrip(t *testing.T) {
	s := Start{
		Nonce: "n", Argv: []string{"sh", "-c", "echo \xff"}, Env: []string{"A=1", "B="}, Dir: "/a b",
		Timeout: 90 * time.Second, Grace: time.Second, Ports: []Port{{4040, 61000}, {80, 61001}},
	}
	got, err := ParseStart(s.Message())
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := ParseStart(Message{Op: OpStart}.Add("nonce", "n")); err == nil {
		t.Error("a start without a command was accepted")
	}
	e := Exited{Code: 137, Signal: 9, Reason: ReasonOOM, Error: "x"}
	if got := ParseExited(e.Message()); got != e {
		t.Errorf("got %+v", got)
	}
}

// TestFilterSplitsAnywhere feeds a stream of output and frames in random
// pieces: however it is cut, output and frames come out the same.
func TestFilterSplitsAnywhere(t *testing.T) {
	const nonce = "0123456789abcdef"
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var stream, output []byte
		var frames []Message
		for range r.IntN(8) {
			switch r.IntN(4) {
			case 0:
				m := Message{Op: OpListening}.AddInt("port", r.IntN(70000))
				frames = append(frames, m)
				stream = m.Append(append(stream, Marker(nonce)...))
			case 1: // looks like a frame, is none
				p := append(Marker("ffffffffffffffff"), "exited code=\"0\"\n"...)
				stream, output = append(stream, p...), append(output, p...)
			case 2: // the beginning of a marker
				p := Marker(nonce)[:r.IntN(len(Marker(nonce)))]
				stream, output = append(stream, p...), append(output, p...)
			default:
				p := []byte(strings.Repeat("\x1e\x1eb", r.IntN(5)) + "text\n")
				stream, output = append(stream, p...), append(output, p...)
			}
		}
		var gotOutput []byte
		var gotFrames []Message
		f := NewFilter(nonce, func(p []byte) { gotOutput = append(gotOutput, p...) }, func(m Message) { gotFrames = append(gotFrames, m) })
		for rest := stream; len(rest) > 0; {
			n := 1 + r.IntN(min(len(rest), 30))
			f.Write(rest[:n])
			rest = rest[n:]
		}
		f.Flush()
		if !bytes.Equal(gotOutput, output) || !reflect.DeepEqual(gotFrames, frames) {
			t.Fatalf("stream %q:\noutput %q, want %q\nframes %v, want %v", stream, gotOutput, output, gotFrames, frames)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	p := bytes.Repeat([]byte("some output of an ordinary kind\n"), 1024)
	f := NewFilter("0123456789abcdef", func([]byte) {}, func(Message) {})
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		f.Write(p)
	}
}
