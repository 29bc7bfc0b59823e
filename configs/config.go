package configs

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is what berth.yaml can set, by the names in the tags. The zero value
// of a field is "not set", or where that makes sense "none".
type Config struct {
	Image   string            `json:"image"`
	Setup   Setup             `json:"setup"`
	Carry   Carry             `json:"carry"`
	Caches  Switch            `json:"caches"`
	Env     map[string]string `json:"env"`
	Limits  Limits            `json:"limits"`
	Network Network           `json:"network"`
	Ports   []Port            `json:"ports"`
	Timeout time.Duration     `json:"timeout"` // 0 is none
}

// Setup is a command whose results jobs start from, and the files on which it
// depends, from the top of the working tree; patterns are allowed.
type Setup struct {
	Run string   `json:"run"`
	Key []string `json:"key,omitempty"`
}

// Carry says which ignored files of the checkout jobs see: none, those named,
// or with neither those that berth chooses. Paths are from the top of the
// working tree.
type Carry struct {
	Off   bool
	Paths []string
}

func (c Carry) String() string {
	switch {
	case c.Off:
		return string(Off)
	case len(c.Paths) == 0:
		return string(Auto)
	}
	return strings.Join(c.Paths, " ")
}

// MarshalJSON writes it as it is written in berth.yaml.
func (c Carry) MarshalJSON() ([]byte, error) {
	if len(c.Paths) > 0 {
		return json.Marshal(c.Paths)
	}
	return json.Marshal(c.String())
}

// Switch is auto or off.
type Switch string

// The values of a [Switch].
const (
	Auto Switch = "auto"
	Off  Switch = "off"
)

// Network is what a job reaches.
type Network string

// The values of a [Network].
const (
	NetworkFull Network = "full"
	NetworkNone Network = "none"
)

// Limits bound what a job may use of the machine. 0 is none.
type Limits struct {
	CPUs   float64 `json:"cpus"`
	Memory int64   `json:"memory"` // bytes
	Pids   int64   `json:"pids"`
}

// Port is a port of a job to be published on 127.0.0.1.
type Port struct {
	Port  int    // in the container
	Host  int    // on the host; 0 is any
	Proto string // tcp or udp
}

func (p Port) String() string {
	s := strconv.Itoa(p.Port)
	if p.Host != 0 {
		s = strconv.Itoa(p.Host) + ":" + s
	}
	if p.Proto == "udp" {
		s += "/udp"
	}
	return s
}

// MarshalText writes a port as String does.
func (p Port) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// OriginKind says in which layer something was set.
type OriginKind string

// The layers, each of which beats those before it.
const (
	FromDefault OriginKind = "default"
	FromUser    OriginKind = "user"
	FromRepo    OriginKind = "repository"
	FromEnv     OriginKind = "environment"
	FromFlag    OriginKind = "flag"
)

// Origin is where a value comes from.
type Origin struct {
	Kind OriginKind `json:"kind"`
	File string     `json:"file,omitempty"` // absolute
	Line int        `json:"line,omitempty"`
	Name string     `json:"name,omitempty"` // of the variable or flag
}

func (o Origin) String() string {
	switch {
	case o.File != "":
		return o.File + ":" + strconv.Itoa(o.Line)
	case o.Name != "":
		return o.Name
	}
	return string(o.Kind)
}

// Layer is a configuration of which only some keys are set: those of which it
// is known where they come from. Keys are written image, limits.cpus, env.NAME.
type Layer struct {
	Config
	From map[string]Origin
}

// Mark says that a key is set, and by what.
func (l *Layer) Mark(key string, from Origin) {
	if l.From == nil {
		l.From = map[string]Origin{}
	}
	l.From[key] = from
}

// Defaults is the lowest layer, in which all keys are set.
func Defaults() Layer {
	l := Layer{Config: Config{
		Image:   Image,
		Caches:  Auto,
		Limits:  Limits{Pids: Pids},
		Network: NetworkFull,
	}}
	for _, k := range keys() {
		l.Mark(k.name, Origin{Kind: FromDefault})
	}
	return l
}

// Over puts a layer over l: what is set in it holds. Variables in env are
// keys of their own; a list is one value.
func (l *Layer) Over(top Layer) {
	for _, k := range keys() {
		if from, ok := top.From[k.name]; ok {
			k.copy(&l.Config, &top.Config)
			l.Mark(k.name, from)
		}
	}
	l.Env = maps.Clone(l.Env)
	for name, value := range top.Env {
		if l.Env == nil {
			l.Env = map[string]string{}
		}
		l.Env[name] = value
		l.Mark(envPrefix+name, top.From[envPrefix+name])
	}
}

// envPrefix is what keys of variables begin with.
const envPrefix = "env."

// Setting is a key with its value.
type Setting struct {
	Key   string `json:"key"`
	Value any    `json:"value"` // as for JSON
	Text  string `json:"-"`     // as for people; "" is none
	From  Origin `json:"from"`
}

// List lists all keys that are set, variables last and by name.
func (l *Layer) List() []Setting {
	var list []Setting
	for _, k := range keys() {
		if from, ok := l.From[k.name]; ok {
			list = append(list, k.setting(&l.Config, from))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Env)) {
		value := l.Env[name]
		list = append(list, Setting{Key: envPrefix + name, Value: value, Text: value, From: l.From[envPrefix+name]})
	}
	return list
}
