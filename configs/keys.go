package configs

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// key is one thing that can be set, but for the variables in env, each of which
// is a key of its own.
type key struct {
	name     string                               // as in berth.yaml, groups before a dot: limits.cpus
	variable bool                                 // can be set in the environment too
	read     func(*Config, *yaml.Node) error      // errors: *valueError
	copy     func(to, from *Config)               // of this key alone
	setting  func(*Config, Origin) Setting        // for showing
	asks     func(repository, below *Config) bool // see askable
}

// askable is the rule for a repository's file, which is the input of somebody
// unknown: it gets the value there and the one below, of the user's file or the
// default, and tells whether the repository's takes something from the host or
// loosens what holds without it. Then it counts only if the user trusts the
// file.
type askable[T any] func(repository, below T) bool

// never is for keys that change nothing but what happens inside the sandbox.
func never[T any](_, _ T) bool { return false }

// keys is all that berth.yaml can set, in the order in which it is shown. What
// is new gets a line here, a field of Config and a property in the schema.
func keys() []key {
	return []key{
		// Any image runs in the same sandbox, but host shows the host's programs.
		entry("image", true, func(c *Config) *string { return &c.Image }, readImage,
			func(repository, below string) bool { return repository == Image && below != Image }),
		entry("setup", false, func(c *Config) *Setup { return &c.Setup }, readSetup, never),
		// Ignored files may be secrets: .env is the usual one.
		entry("carry", true, func(c *Config) *Carry { return &c.Carry }, readCarry,
			func(repository, below Carry) bool { return len(repository.Paths) > 0 || below.Off && !repository.Off }),
		entry("caches", true, func(c *Config) *Switch { return &c.Caches }, oneOf(Auto, Off),
			func(repository, below Switch) bool { return below == Off && repository != Off }),
		entry("limits.cpus", true, func(c *Config) *float64 { return &c.Limits.CPUs }, scalar(ParseCPUs, "a number"), raises),
		entry("limits.memory", true, func(c *Config) *int64 { return &c.Limits.Memory }, scalar(ParseMemory, "a size"), raises),
		entry("limits.pids", true, func(c *Config) *int64 { return &c.Limits.Pids }, scalar(ParsePids, "a number"), raises),
		entry("network", true, func(c *Config) *Network { return &c.Network }, readNetwork,
			func(repository, below Network) bool { return below == NetworkNone && repository != NetworkNone }),
		// On 127.0.0.1 only, and on another port when somebody has that one.
		entry("ports", false, func(c *Config) *[]Port { return &c.Ports }, readPorts, func(_, _ []Port) bool { return false }),
		entry("timeout", true, func(c *Config) *time.Duration { return &c.Timeout }, scalar(ParseTimeout, "a duration"), never),
	}
}

// raises tells whether a limit goes beyond that below, of which 0 is none.
func raises[T int64 | float64](repository, below T) bool { return below != 0 && repository > below }

func entry[T any](name string, variable bool, at func(*Config) *T, read func(*yaml.Node) (T, error), asks askable[T]) key {
	return key{
		name:     name,
		variable: variable,
		read: func(c *Config, n *yaml.Node) (err error) {
			*at(c), err = read(n)
			return err
		},
		copy:    func(to, from *Config) { *at(to) = *at(from) },
		setting: func(c *Config, from Origin) Setting { return show(name, *at(c), from) },
		asks:    func(repository, below *Config) bool { return asks(*at(repository), *at(below)) },
	}
}

// show makes a setting of a value.
func show(name string, value any, from Origin) Setting {
	s := Setting{Key: name, Value: value, From: from}
	switch v := value.(type) {
	case Setup:
		if s.Text = v.Run; v.Run == "" {
			s.Value = nil
		}
		if len(v.Key) > 0 {
			s.Text += " (key: " + strings.Join(v.Key, " ") + ")"
		}
	case []Port:
		var texts []string
		for _, p := range v {
			texts = append(texts, p.String())
		}
		if s.Text = strings.Join(texts, " "); v == nil {
			s.Value = []Port{}
		}
	case time.Duration:
		s.Text, s.Value = "", nil
		if v > 0 {
			s.Text = v.String()
			s.Value = s.Text
		}
	case int64:
		if s.Value = nil; v > 0 {
			s.Text, s.Value = FormatMemory(v), v
		}
		if name == "limits.pids" {
			s.Text = fmt.Sprint(v)
		}
	case float64:
		if s.Value = nil; v > 0 {
			s.Text, s.Value = fmt.Sprint(v), v
		}
	default:
		s.Text = fmt.Sprint(v)
	}
	return s
}

// variableOf is the name of a key in the environment: BERTH_LIMITS_CPUS.
func variableOf(key string) string {
	return "BERTH_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
