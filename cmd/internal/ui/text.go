// Package ui draws what the commands of berth print for people: durations,
// sizes, tables, and one line of progress. It writes plain text, without
// colour, and uses no terminal library.
package ui

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Duration is d in at most two units: 0.3s, 12.4s, 4m12s, 2h03m, 3d04h. Zero is
// an empty text, since what has not begun has no duration.
func Duration(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", min(d, time.Minute-50*time.Millisecond-1).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Bytes is a size in decimal units: 512B, 18.4KB, 1.2GB.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%dB", n)
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.95 && unit < 3 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f%cB", value, "KMGT"[unit])
}

// OneLine makes text that jobs or users chose fit for one line of a terminal:
// control characters, line breaks among them, become spaces.
func OneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.Join(strings.Fields(s), " ")
}

// Table writes rows below a header in columns two spaces apart. A column that
// is empty in every row is left out, if there is any row. With a width > 0 lines are cut to it.
func Table(w io.Writer, width int, header []string, rows [][]string) error {
	widths := make([]int, len(header))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range append([][]string{header}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			if widths[i] == 0 && len(rows) > 0 {
				continue
			}
			column := max(widths[i], utf8.RuneCountInString(header[i]))
			line.WriteString(cell + strings.Repeat(" ", column-utf8.RuneCountInString(cell)+2))
		}
		if _, err := fmt.Fprintln(w, Cut(strings.TrimRight(line.String(), " "), width)); err != nil {
			return err
		}
	}
	return nil
}

// Cut shortens a text to a width in characters, if that is > 0.
func Cut(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
}
