package configs

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// valueError is a value that is none, and where it is in the file.
type valueError struct {
	node *yaml.Node
	text string
	hint string
}

func (e *valueError) Error() string { return e.text }

func wrong(n *yaml.Node, hint, format string, args ...any) error {
	return &valueError{n, fmt.Sprintf(format, args...), hint}
}

// hints say how a value is written, by key.
var hints = map[string]string{
	"image":         "write image: host, or image: debian:12",
	"setup":         "write setup: {run: npm ci, key: [package-lock.json]}",
	"carry":         "write auto, off, or a list of paths",
	"caches":        "write auto or off",
	"env":           `write env: {NAME: "value"}`,
	"limits":        "write limits: {cpus: 2, memory: 4g, pids: 4096}",
	"limits.cpus":   "write a number such as 2 or 0.5",
	"limits.memory": "write a size such as 512m or 4g",
	"limits.pids":   "write a number such as 4096",
	"network":       "write full or none",
	"ports":         `write ports: [4040, "8080:4040", 53/udp]`,
	"timeout":       "write 90s, 30m or 1h30m",
}

// later is refused with a hint of its own: it is no mistake of the user's.
func later(n *yaml.Node, key, what, instead string) error {
	return wrong(n, instead, "%s: %s is not available in this version of berth", key, what)
}

func readImage(n *yaml.Node) (string, error) {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if name := n.Content[i].Value; name == "build" || name == "devcontainer" {
				return "", later(n.Content[i], "image", name, "build it, and name the image that comes out")
			}
		}
	}
	s, err := text(n)
	if err == nil && s == "" {
		err = wrong(n, "", "it is empty")
	}
	return s, err
}

func readNetwork(n *yaml.Node) (Network, error) {
	if n.Kind == yaml.MappingNode {
		return "", later(n, "network", "a list of what is allowed", hints["network"])
	}
	return oneOf(NetworkFull, NetworkNone)(n)
}

func readSetup(n *yaml.Node) (Setup, error) {
	var s Setup
	err := fields(n, []string{"run", "key"}, func(name string, key, value *yaml.Node) (err error) {
		switch name {
		case "run":
			s.Run, err = text(value)
		case "key":
			s.Key, err = paths(value, CheckPattern)
		}
		return err
	})
	if err == nil && strings.TrimSpace(s.Run) == "" {
		err = wrong(n, hints["setup"], "there is no command: run is missing or empty")
	}
	return s, err
}

func readCarry(n *yaml.Node) (Carry, error) {
	if n.Kind == yaml.SequenceNode {
		list, err := paths(n, CheckPath)
		if err == nil && len(list) == 0 {
			return Carry{Off: true}, nil
		}
		return Carry{Paths: list}, err
	}
	s, err := oneOf(Auto, Off)(n)
	return Carry{Off: s == Off}, err
}

func readPorts(n *yaml.Node) ([]Port, error) {
	ports := []Port{}
	return ports, each(n, "ports", func(n *yaml.Node) error {
		p, err := scalar(ParsePort, "a port")(n)
		ports = append(ports, p)
		return err
	})
}

// readEnv reads variables with the place of each.
func readEnv(n *yaml.Node, set func(name, value string, at *yaml.Node) error) error {
	return fields(n, nil, func(name string, key, value *yaml.Node) error {
		if err := CheckVariable(name); err != nil {
			return wrong(key, hints["env"], "%q: %v", name, err)
		}
		switch {
		case value.Kind != yaml.ScalarNode || !plainTag(value):
			return wrong(value, hints["env"], "the value of %s is to be a text, not %s", name, describe(value))
		case value.ShortTag() == "!!null":
			return wrong(key, `write `+name+`: "" for an empty one`, "%s has no value", name)
		case strings.Contains(value.Value, "\x00"):
			return wrong(value, "", "the value of %s holds a zero byte", name)
		}
		return set(name, value.Value, key)
	})
}

// fields goes through a mapping. names are the keys that it may have; nil
// stands for any.
func fields(n *yaml.Node, names []string, field func(name string, key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return wrong(n, "", "it is to have keys, and is %s", describe(n))
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], follow(n.Content[i+1])
		name, err := keyName(key, names)
		if err != nil {
			return err
		}
		if line, twice := seen[name]; twice {
			return wrong(key, "", "%q is there already, in line %d", name, line)
		}
		seen[name] = key.Line
		if err := field(name, key, value); err != nil {
			return err
		}
	}
	return nil
}

// keyName reads a key of a mapping; names as for fields.
func keyName(key *yaml.Node, names []string) (string, error) {
	key = follow(key)
	if key.Kind != yaml.ScalarNode {
		return "", wrong(key, "", "a key is to be a name, not %s", describe(key))
	}
	if names != nil && !has(names, key.Value) {
		return "", unknownKey(key, names)
	}
	return key.Value, nil
}

// each goes through a list.
func each(n *yaml.Node, key string, item func(*yaml.Node) error) error {
	if n.Kind != yaml.SequenceNode {
		return wrong(n, hints[key], "it is to be a list, and is %s", describe(n))
	}
	for _, c := range n.Content {
		if err := item(follow(c)); err != nil {
			return err
		}
	}
	return nil
}

func paths(n *yaml.Node, check func(string) error) ([]string, error) {
	var list []string
	return list, each(n, "", func(n *yaml.Node) error {
		s, err := text(n)
		if err != nil {
			return err
		}
		if err := check(s); err != nil {
			return wrong(n, "", "%q: %v", s, err)
		}
		list = append(list, s)
		return nil
	})
}

// scalar makes a reader of a parser of text. what names the value.
func scalar[T any](parse func(string) (T, error), what string) func(*yaml.Node) (T, error) {
	return func(n *yaml.Node) (T, error) {
		var none T
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || n.ShortTag() == "!!bool" || !plainTag(n) {
			return none, wrong(n, "", "it is to be %s, and is %s", what, describe(n))
		}
		v, err := parse(n.Value)
		if err != nil {
			return none, wrong(n, "", "%q: %v", n.Value, err)
		}
		return v, nil
	}
}

// oneOf reads one of two words.
func oneOf[T ~string](a, b T) func(*yaml.Node) (T, error) {
	return func(n *yaml.Node) (T, error) {
		if n.Kind == yaml.ScalarNode && plainTag(n) && (n.Value == string(a) || n.Value == string(b)) {
			return T(n.Value), nil
		}
		return "", wrong(n, "", "only %s or %s is possible", a, b)
	}
}

// text reads a string. What YAML takes for something else must be quoted, so
// that what is meant is what is written.
func text(n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		hint := ""
		if n.Kind == yaml.ScalarNode && plainTag(n) && n.ShortTag() != "!!null" {
			hint = fmt.Sprintf("put it in quotes: %q", n.Value)
		}
		return "", wrong(n, hint, "it is to be a text, and is %s", describe(n))
	}
	if strings.Contains(n.Value, "\x00") {
		return "", wrong(n, "", "it holds a zero byte")
	}
	return n.Value, nil
}

// follow follows an alias. It goes one step, as there are no aliases of
// aliases; and since what is read is at most three levels deep, aliases cannot
// make a small file large.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// plainTag tells whether a scalar is of a type that YAML itself finds in text.
func plainTag(n *yaml.Node) bool {
	return has([]string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp"}, n.ShortTag())
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a set of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
	default:
		return "something else"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool", "!!timestamp", "!!str":
		return fmt.Sprintf("%q", n.Value)
	}
	return "of the type " + n.ShortTag()
}
