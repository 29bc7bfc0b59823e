package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"go.yaml.in/yaml/v4"
)

// FileName is the name of a configuration file, in a repository and among the
// user's.
const FileName = "berth.yaml"

// largestFile bounds what is read as one.
const largestFile = 1 << 20

// UserFile is where the user's own configuration may be:
// $XDG_CONFIG_HOME/berth/berth.yaml, by default below ~/.config. It is "" where
// neither is known.
func UserFile(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "berth", FileName)
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "berth", FileName)
	}
	return ""
}

// Sources says where to look for configuration.
type Sources struct {
	UserFile string              // "" is none
	Root     string              // top of the working tree; "" is none
	Getenv   func(string) string // variables BERTH_<KEY>
	Trust    Trust               // of files in repositories
}

// Settings is what holds, but for flags.
type Settings struct {
	Layer
	File    string    // the repository's, absolute; "" if there is none
	Sum     string    // of its content, see [Trust]
	Asked   []Setting // what in it counts only when it is trusted
	Trusted bool
}

// Load reads all layers below the flags. A file that is not there is an empty
// one. Errors: *[FileError], *[VariableError], and of the file system.
func Load(from Sources) (*Settings, error) {
	s := &Settings{Layer: Defaults()}
	if from.UserFile != "" {
		data, err := readFile(from.UserFile, func(flags int) (*os.File, error) { return os.OpenFile(from.UserFile, flags, 0) })
		if err != nil {
			return nil, err
		}
		layer, err := parse(data, FromUser, from.UserFile)
		if err != nil {
			return nil, err
		}
		s.Over(layer)
	}
	if from.Root != "" {
		if err := s.repository(from); err != nil {
			return nil, err
		}
	}
	layer, err := environment(from.Getenv)
	if err != nil {
		return nil, err
	}
	s.Over(layer)
	return s, nil
}

// repository reads the file of a working tree, and leaves out what it may not
// set.
func (s *Settings) repository(from Sources) error {
	file := filepath.Join(from.Root, FileName)
	root, err := os.OpenRoot(from.Root)
	if err != nil {
		return fmt.Errorf("read %s: %w", FileName, err)
	}
	defer root.Close()
	data, err := readFile(file, func(flags int) (*os.File, error) { return root.OpenFile(FileName, flags, 0) })
	if err != nil || data == nil {
		return err
	}
	layer, err := parse(data, FromRepo, file)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	s.File, s.Sum = file, hex.EncodeToString(sum[:])
	s.Trusted = from.Trust.Has(from.Root, s.Sum)
	for _, k := range keys() {
		origin, set := layer.From[k.name]
		if !set || !k.asks(&layer.Config, &s.Config) {
			continue
		}
		s.Asked = append(s.Asked, k.setting(&layer.Config, origin))
		if !s.Trusted {
			delete(layer.From, k.name)
		}
	}
	s.Over(layer)
	return nil
}

// Ignored is what the repository's file asks for in vain.
func (s *Settings) Ignored() []Setting {
	if s.Trusted {
		return nil
	}
	return s.Asked
}

// readFile reads a configuration file. One that is not there is nil.
func readFile(path string, open func(flags int) (*os.File, error)) ([]byte, error) {
	unusable := func(text, hint string) error {
		return &FileError{File: path, Problems: []Problem{{File: path, Text: text, Hint: hint}}}
	}
	// Opening a pipe waits for somebody to write to it.
	f, err := open(os.O_RDONLY | syscall.O_NONBLOCK)
	if err != nil {
		link, lerr := os.Lstat(path)
		isLink := lerr == nil && link.Mode()&fs.ModeSymlink != 0
		switch {
		case isLink && errors.Is(err, fs.ErrNotExist):
			return nil, unusable("it is a link to nothing", "")
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return nil, nil
		case isLink && !errors.Is(err, fs.ErrPermission):
			return nil, unusable("it is a link that leads out of the repository", "put the file itself there")
		}
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, unusable("it is not a regular file", "")
	}
	data, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > largestFile {
		return nil, unusable("it is larger than 1 MiB", "")
	}
	return data, nil
}

// environment reads BERTH_<KEY>, with _ between a key and what is in it:
// BERTH_IMAGE, BERTH_LIMITS_CPUS. An empty one is not set.
func environment(getenv func(string) string) (Layer, error) {
	var l Layer
	for _, k := range keys() {
		name := variableOf(k.name)
		if value := getenv(name); k.variable && value != "" {
			if err := l.Set(k.name, value, Origin{Kind: FromEnv, Name: name}); err != nil {
				return Layer{}, err
			}
		}
	}
	return l, nil
}

// Set sets a key whose value is one word, such as limits.memory to 4g. An error
// is a *[VariableError].
func (l *Layer) Set(name, value string, from Origin) error {
	i := slices.IndexFunc(keys(), func(k key) bool { return k.name == name })
	if err := keys()[i].read(&l.Config, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}); err != nil {
		hint := hints[name]
		if name == "carry" {
			hint = "write auto or off"
		}
		return &VariableError{Name: from.Name, Value: value, Why: reasonOf(err, value), Hint: hint}
	}
	l.Mark(name, from)
	return nil
}

// reasonOf is an error about a value without the value.
func reasonOf(err error, value string) string {
	quoted := fmt.Sprintf("%q: ", value)
	if text := err.Error(); len(text) > len(quoted) && text[:len(quoted)] == quoted {
		return text[len(quoted):]
	}
	return err.Error()
}
