package configs

import (
	"errors"
	"fmt"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The errors of this file say what is wrong with a value, to be put behind it.

// ParsePort reads PORT, HOST:PORT, and either with /tcp or /udp.
func ParsePort(s string) (Port, error) {
	ports, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	if proto != "tcp" && proto != "udp" {
		return Port{}, errors.New("the protocol is tcp or udp")
	}
	host, port, both := strings.Cut(ports, ":")
	if !both {
		host, port = "", host
	}
	p := Port{Proto: proto}
	var err error
	if p.Port, err = ParsePortNumber(port); err == nil && both {
		p.Host, err = ParsePortNumber(host)
	}
	if err != nil {
		return Port{}, err
	}
	return p, nil
}

// ParsePortNumber reads the number of a port.
func ParsePortNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || strings.ContainsAny(s, "+-") {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("%d is not between 1 and 65535", n)
	}
	return n, nil
}

// ParseCPUs reads a number of processors, which may be a fraction.
func ParseCPUs(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, errors.New("it is not a number")
	}
	return n, CheckCPUs(n)
}

// CheckCPUs checks a number of processors. Engines count them in hundredths.
func CheckCPUs(n float64) error {
	switch {
	case math.IsNaN(n) || n < 0.01:
		return errors.New("it is below 0.01")
	case n > 1e6:
		return errors.New("there is no such machine")
	}
	return nil
}

var memoryRule = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([kmgt]?)(i?b)?$`)

// leastMemory is what engines want a container to have.
const leastMemory = 6 << 20

// ParseMemory reads a size such as 512m or 4g, of which the units are powers of
// 1024. Without a unit it is bytes.
func ParseMemory(s string) (int64, error) {
	parts := memoryRule.FindStringSubmatch(strings.ToLower(s))
	if parts == nil {
		return 0, errors.New("it is not a number with a unit")
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	if err != nil {
		return 0, errors.New("it is not a number with a unit")
	}
	if parts[2] != "" {
		n *= math.Pow(1024, float64(1+strings.Index("kmgt", parts[2])))
	}
	if n >= 1<<62 {
		return 0, errors.New("there is no such machine")
	}
	return int64(n), CheckMemory(int64(n))
}

// CheckMemory checks a limit of memory, in bytes.
func CheckMemory(bytes int64) error {
	if bytes < leastMemory {
		return errors.New("it is below 6m, the least that a container can have")
	}
	return nil
}

// FormatMemory is the shortest way to write a size for ParseMemory.
func FormatMemory(bytes int64) string {
	unit := 0
	for unit < 4 && bytes != 0 && bytes%1024 == 0 {
		bytes, unit = bytes/1024, unit+1
	}
	return strconv.FormatInt(bytes, 10) + []string{"", "k", "m", "g", "t"}[unit]
}

// LeastPids is how many processes and threads a job needs at least: init has
// some threads of its own.
const LeastPids = 32

// ParsePids reads a number of processes and threads.
func ParsePids(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, errors.New("it is not a whole number")
	}
	return n, CheckPids(n)
}

// CheckPids checks a limit of processes and threads.
func CheckPids(n int64) error {
	if n < LeastPids {
		return fmt.Errorf("it is below %d, the least with which a job can begin", LeastPids)
	}
	return nil
}

// ParseTimeout reads a duration such as 90s or 1h30m; 0 is none.
func ParseTimeout(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("it is not a number with a unit")
	}
	return d, CheckTimeout(d)
}

// CheckTimeout checks a timeout, of which 0 is none.
func CheckTimeout(d time.Duration) error {
	switch {
	case d < 0:
		return errors.New("it is negative")
	case d > 0 && d < time.Millisecond:
		return errors.New("it is below a millisecond")
	}
	return nil
}

// CheckPath checks a path or pattern from the top of a working tree: it must
// not lead out of it, nor into git's own files.
func CheckPath(p string) error {
	switch {
	case p == "":
		return errors.New("it is empty")
	case strings.Contains(p, "\x00"):
		return errors.New("it holds a zero byte")
	case filepath.IsAbs(p):
		return errors.New("it is absolute, and paths are from the top of the repository")
	case !filepath.IsLocal(p):
		return errors.New("it leads out of the repository")
	case path.Clean(p) == ".":
		return errors.New("it is the whole repository")
	case strings.EqualFold(strings.SplitN(path.Clean(p), "/", 2)[0], ".git"):
		return errors.New("git's own files are not for jobs")
	}
	return nil
}

// CheckPattern is CheckPath for what may hold *, ? and [].
func CheckPattern(p string) error {
	if _, err := path.Match(p, ""); err != nil {
		return errors.New("a [ in it has no end")
	}
	return CheckPath(p)
}

// CheckVariable checks the name of an environment variable.
func CheckVariable(name string) error {
	if name == "" || strings.ContainsAny(name, "= \t\n\x00") {
		return errors.New("it cannot be the name of a variable")
	}
	return nil
}
