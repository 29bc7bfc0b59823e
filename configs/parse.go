package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"berth/internal/near"
)

// mostProblems is how many problems of a file are told at once.
const mostProblems = 8

// parse reads berth.yaml. file and kind say whose it is. What is wrong with it
// is a *[FileError]. Nothing of a file with a fault is used.
func parse(data []byte, kind OriginKind, file string) (Layer, error) {
	p := &parser{file: file, kind: kind, source: newSource(data)}
	root := p.document(data)
	if root != nil {
		p.root(root)
	}
	if len(p.problems) > 0 {
		return Layer{}, &FileError{File: file, Problems: p.problems[:min(len(p.problems), mostProblems)]}
	}
	return p.layer, nil
}

type parser struct {
	file     string
	kind     OriginKind
	source   source
	layer    Layer
	problems []Problem
}

func (p *parser) problem(line, column int, text, hint string) {
	p.problems = append(p.problems, Problem{File: p.file, Line: line, Column: column, Text: text, Hint: hint, Excerpt: p.source.excerpt(line, column)})
}

// at is the origin of what a node sets.
func (p *parser) at(n *yaml.Node) Origin {
	return Origin{Kind: p.kind, File: p.file, Line: n.Line}
}

// document reads the one document that there is, nil for none.
func (p *parser) document(data []byte) *yaml.Node {
	if i, what := notText(data); i >= 0 {
		line, column := p.source.position(i)
		p.problem(line, column, what, "")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if err = decoder.Decode(&more); err == nil {
			p.problem(more.Line, more.Column, "a second document begins here, and one is all that is read", "take out the line ---")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		p.syntax(err)
		return nil
	}
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		return nil
	}
	return doc.Content[0]
}

// syntax tells an error of the library's.
func (p *parser) syntax(err error) {
	var bad *yaml.LoadError
	if !errors.As(err, &bad) {
		p.problem(1, 1, err.Error(), "")
		return
	}
	mark := bad.Mark
	if c := bad.ContextMark; c.Line > 0 && (mark.Line == 0 || p.source.pastEnd(mark.Line)) {
		mark = c // where the thing began that has no end
	}
	text, hint := bad.Message, ""
	if line := p.source.line(mark.Line); strings.HasPrefix(strings.TrimLeft(line, " "), "\t") {
		hint = "indent with spaces: YAML takes no tabs"
	}
	p.problem(max(mark.Line, 1), max(mark.Column, 1), "this is not YAML: "+text, hint)
}

// root reads the keys, each by itself so that all problems are told.
func (p *parser) root(root *yaml.Node) {
	if root.Kind != yaml.MappingNode {
		p.problem(root.Line, root.Column, "keys and values are wanted here, not "+describe(root), "write image: host, for one")
		return
	}
	p.group(root, "")
}

// group reads a mapping of keys; prefix is "" or as "limits.".
func (p *parser) group(n *yaml.Node, prefix string) {
	names := keyNames(prefix)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		node, value := n.Content[i], follow(n.Content[i+1])
		name, err := keyName(node, names)
		if err == nil && seen[name] > 0 {
			err = wrong(node, "", "%q is there already, in line %d", name, seen[name])
		}
		if err == nil {
			seen[name] = node.Line
			err = p.key(prefix+name, node, value)
		}
		if err != nil {
			p.told(err, node, "")
		}
	}
}

// key reads the value of a key. One without a value, such as a list whose
// items are all commented out, is not set.
func (p *parser) key(name string, node, value *yaml.Node) error {
	if isNull(value) {
		return nil
	}
	if name == "env" {
		p.told(readEnv(value, func(variable, text string, at *yaml.Node) error {
			if p.layer.Env == nil {
				p.layer.Env = map[string]string{}
			}
			p.layer.Env[variable] = text
			p.layer.Mark(envPrefix+variable, p.at(at))
			return nil
		}), value, name)
		return nil
	}
	if i := slices.IndexFunc(keys(), func(k key) bool { return k.name == name }); i >= 0 {
		p.told(keys()[i].read(&p.layer.Config, value), value, name)
		p.layer.Mark(name, p.at(node))
		return nil
	}
	if value.Kind != yaml.MappingNode {
		return wrong(value, hints[name], "%s: it is to have keys, and is %s", name, describe(value))
	}
	p.group(value, name+".")
	return nil
}

// told notes an error, if it is one, of the key with a name.
func (p *parser) told(err error, n *yaml.Node, name string) {
	if err == nil {
		return
	}
	text, hint := err.Error(), ""
	var bad *valueError
	if errors.As(err, &bad) {
		n, hint = bad.node, bad.hint
	}
	if name != "" {
		if !strings.HasPrefix(text, name+": ") {
			text = name + ": " + text
		}
		if hint == "" {
			hint = hints[name]
		}
	}
	p.problem(n.Line, n.Column, text, hint)
}

// keyNames lists the keys of a group, "" for the outermost.
func keyNames(prefix string) []string {
	var names []string
	add := func(name string) {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if rest, _, _ = strings.Cut(rest, "."); !has(names, rest) {
				names = append(names, rest)
			}
		}
	}
	for _, k := range keys() {
		add(k.name)
	}
	if prefix == "" {
		add("env")
	}
	return names
}

func unknownKey(n *yaml.Node, names []string) error {
	similar := near.Names(n.Value, names, max(2, len(n.Value)/3), 2, func(name string) int {
		if n.Value != "" && (strings.HasPrefix(name, n.Value) || strings.HasPrefix(n.Value, name)) {
			return 1
		}
		return near.Never
	})
	hint := "the keys are " + strings.Join(names, ", ")
	if len(similar) > 0 {
		hint = "did you mean " + strings.Join(similar, " or ") + "?"
	}
	return wrong(n, hint, "there is no key %q", n.Value)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func has(list []string, s string) bool { return slices.Contains(list, s) }

// notText is the index of the first byte that cannot be in a text, or -1, and
// what it is.
func notText(data []byte) (int, string) {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return i, "this is not UTF-8 text"
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f:
			return i, fmt.Sprintf("a control character (%#x) is not text", r)
		}
		i += size
	}
	return -1, ""
}
