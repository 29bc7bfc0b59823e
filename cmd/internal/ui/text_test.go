package ui_test

import (
	"strings"
	"testing"
	"time"

	"berth/cmd/internal/ui"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                "",
		-time.Second:                     "",
		40 * time.Millisecond:            "0.0s",
		3240 * time.Millisecond:          "3.2s",
		59999 * time.Millisecond:         "59.9s",
		time.Minute:                      "1m00s",
		4*time.Minute + 12*time.Second:   "4m12s",
		2*time.Hour + 3*time.Minute:      "2h03m",
		3*24*time.Hour + 4*time.Hour + 1: "3d04h",
	} {
		if got := ui.Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 999: "999B", 1000: "1.0KB", 18430: "18.4KB", 999_960: "1.0MB", 5_000_000_000: "5.0GB", 2_500_000_000_000: "2.5TB",
	} {
		if got := ui.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	rows := [][]string{{"web", "", "go run ./cmd"}, {"größer", "", "x"}}
	if err := ui.Table(&out, 16, []string{"NAME", "PORTS", "COMMAND"}, rows); err != nil {
		t.Fatal(err)
	}
	want := "NAME    COMMAND\nweb     go run …\ngrößer  x\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestOneLine(t *testing.T) {
	if got := ui.OneLine("a\n\x1b[31mb\tc\xff "); got != "a [31mb c?" {
		t.Errorf("got %q", got)
	}
}

func TestProgress(t *testing.T) {
	clock := time.Unix(0, 0)
	now := func() time.Time { return clock }
	for _, c := range []struct {
		terminal bool
		want     string
	}{
		{false, "one\nfour\n"},
		{true, "\r\x1b[Kone\r\x1b[Kthree\r\x1b[Kfour\r\x1b[K"},
	} {
		var out strings.Builder
		p := ui.NewProgress(&out, c.terminal, now)
		for i, text := range []string{"one", "two", "three", "four"} {
			p.Set(text)
			clock = clock.Add([]time.Duration{time.Millisecond, time.Second, 5 * time.Second, 0}[i])
		}
		p.Clear()
		if out.String() != c.want {
			t.Errorf("terminal %v: got %q, want %q", c.terminal, out.String(), c.want)
		}
	}
}
