package runner

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"berth/configs"
)

// Spec is what a job is to be. The zero value of a field asks for its default.
type Spec struct {
	Name    string        `json:"name,omitempty"`    // handle; by default made from the command
	Argv    []string      `json:"argv"`              // the command and its arguments, any bytes
	Dir     string        `json:"dir"`               // the caller's working directory, absolute
	Ref     string        `json:"ref,omitempty"`     // what to run on; by default the working tree as it is now
	Live    bool          `json:"live,omitempty"`    // on the user's own files instead of a snapshot
	Image   string        `json:"image,omitempty"`   // by default configs.Image
	Env     []string      `json:"env,omitempty"`     // KEY=VALUE, on top of everything else
	Caller  []string      `json:"caller,omitempty"`  // the caller's environment, of which little is used: see images.HostEnv
	Timeout time.Duration `json:"timeout,omitempty"` // from the command's start; 0 is none
	Ports   []PortSpec    `json:"ports,omitempty"`
	Keep    bool          `json:"keep,omitempty"` // hold the container after the command's end

	From      string `json:"from,omitempty"`      // an ended job whose files to go on with
	Workspace string `json:"workspace,omitempty"` // name of files that several jobs share and change
	Setup     *Setup `json:"setup,omitempty"`     // what makes files that the command needs
	Carry     Carry  `json:"carry,omitzero"`      // which ignored files of the checkout to bring along
	NoCaches  bool   `json:"no_caches,omitempty"` // share no caches of tools with other jobs
	Root      bool   `json:"root,omitempty"`      // run as root in the container
	Limits    Limits `json:"limits,omitzero"`
	Network   string `json:"network,omitempty"` // full or none; by default full
	Apply     bool   `json:"apply,omitempty"`   // at success, apply the changes to the checkout
	Branch    string `json:"branch,omitempty"`  // at success, make a branch of the changes
}

// Setup is a command whose results jobs start from. It runs once for each command,
// image and contents of the key files.
type Setup struct {
	Run string   `json:"run"`           // a line of shell
	Key []string `json:"key,omitempty"` // files, from the top of the working tree; patterns are allowed
}

// Carry says which ignored files of the user's checkout a job sees.
type Carry struct {
	Off   bool     `json:"off,omitempty"`
	Paths []string `json:"paths,omitempty"` // from the top of the working tree; none and not Off is the default, auto
}

// Limits bound what a job may use of the machine. 0 is the default, which is none
// but for processes.
type Limits struct {
	CPUs   float64 `json:"cpus,omitempty"`
	Memory int64   `json:"memory,omitempty"` // bytes
	Pids   int64   `json:"pids,omitempty"`   // processes and threads
}

// Shell returns the argv that runs a line of shell.
func Shell(line string) []string { return []string{"/bin/sh", "-c", line} }

// PortSpec is a port of the job to be published on 127.0.0.1.
type PortSpec struct {
	Port  int    `json:"port"`           // in the container
	Host  int    `json:"host,omitempty"` // on the host; 0 is the same if it is free, else any
	Proto string `json:"proto"`          // tcp or udp
}

func (p PortSpec) String() string { return configs.Port(p).String() }

// ParsePort reads PORT, HOST:PORT, and either with /tcp or /udp.
func ParsePort(s string) (PortSpec, error) {
	p, err := configs.ParsePort(s)
	if err != nil {
		return PortSpec{}, &InvalidError{What: "port", Value: s, Why: err.Error(), Hint: "use -p 4040, -p 8080:4040 or -p 4040/udp"}
	}
	return PortSpec(p), nil
}

// nameRule is what a handle may look like: fit for a container's name.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// CheckName checks a name that a user gives to a job or a session.
func CheckName(what, name string) error {
	if nameRule.MatchString(name) {
		return nil
	}
	return &InvalidError{What: what, Value: name, Why: "a name has up to 63 letters, digits, dots, dashes and underscores, and starts with a letter or digit"}
}

// Validate checks what can be checked without looking anywhere. Its errors are
// *[InvalidError].
func (s *Spec) Validate() error {
	if len(s.Argv) > 0 && s.Argv[0] == "" || len(s.Argv) == 3 && s.Argv[0] == "/bin/sh" && strings.TrimSpace(s.Argv[2]) == "" {
		return &InvalidError{What: "command", Why: "it is empty", Hint: "put it after --, as in: berth run -- npm test"}
	}
	if len(s.Argv) == 0 {
		return &InvalidError{What: "command", Why: "there is none", Hint: "put it after --, as in: berth run -- npm test"}
	}
	for _, a := range s.Argv {
		if strings.Contains(a, "\x00") {
			return &InvalidError{What: "command", Value: a, Why: "an argument holds a zero byte"}
		}
	}
	if s.Name != "" {
		if err := CheckName("name", s.Name); err != nil {
			return err
		}
		if _, err := ulid.ParseStrict(s.Name); err == nil {
			return &InvalidError{What: "name", Value: s.Name, Why: "it looks like a job ID"}
		}
	}
	if !filepath.IsAbs(s.Dir) {
		return &InvalidError{What: "directory", Value: s.Dir, Why: "it is not absolute"}
	}
	if !utf8.ValidString(s.Dir) {
		return &InvalidError{What: "directory", Value: s.Dir, Why: "its path is not valid UTF-8, which engines want"}
	}
	for _, e := range s.Env {
		if key, _, ok := strings.Cut(e, "="); !ok || key == "" || strings.Contains(e, "\x00") {
			return &InvalidError{What: "environment entry", Value: e, Why: "it is not of the form KEY=VALUE"}
		}
	}
	if err := configs.CheckTimeout(s.Timeout); err != nil {
		return &InvalidError{What: "timeout", Value: s.Timeout.String(), Why: err.Error()}
	}
	if err := s.validateFiles(); err != nil {
		return err
	}
	if err := s.validateSettings(); err != nil {
		return err
	}
	return s.validatePorts()
}

// validateFiles checks that at most one thing is said about where the files come from.
func (s *Spec) validateFiles() error {
	if s.Live && s.Ref != "" {
		return &InvalidError{What: "ref", Value: s.Ref, Why: "--live runs on the files as they are", Hint: "leave out --live or --ref"}
	}
	if s.From != "" && s.Ref != "" {
		return &InvalidError{What: "ref", Value: s.Ref, Why: "--from goes on with the files of a job", Hint: "leave out --from or --ref"}
	}
	var given []string
	for flag, is := range map[string]bool{"--live": s.Live, "--from": s.From != "", "--workspace": s.Workspace != ""} {
		if is {
			given = append(given, flag)
		}
	}
	if slices.Sort(given); len(given) > 1 {
		return &InvalidError{What: "choice of files", Value: strings.Join(given, " "), Why: "each of them says which files to use", Hint: "leave out all but one"}
	}
	if s.Live && (s.Apply || s.Branch != "") {
		return &InvalidError{What: "choice of files", Value: "--live", Why: "the job changes your own files, so there is nothing to apply", Hint: "leave out --live, or --apply and --branch"}
	}
	if s.Workspace != "" {
		return CheckName("workspace", s.Workspace)
	}
	return nil
}

// validateSettings checks what package configs has the rules for.
func (s *Spec) validateSettings() error {
	if s.Setup != nil {
		if strings.TrimSpace(s.Setup.Run) == "" || strings.Contains(s.Setup.Run, "\x00") {
			return &InvalidError{What: "setup", Value: s.Setup.Run, Why: "it is no command"}
		}
		for _, k := range s.Setup.Key {
			if err := configs.CheckPattern(k); err != nil {
				return &InvalidError{What: "key file of the setup", Value: k, Why: err.Error()}
			}
		}
	}
	if s.Carry.Off && len(s.Carry.Paths) > 0 {
		return &InvalidError{What: "carry", Value: s.Carry.Paths[0], Why: "it is off, and has paths"}
	}
	for _, p := range s.Carry.Paths {
		if err := configs.CheckPath(p); err != nil {
			return &InvalidError{What: "path to carry", Value: p, Why: err.Error(), Hint: "name files and directories from the top of the repository"}
		}
	}
	if err := s.Limits.validate(); err != nil {
		return err
	}
	switch configs.Network(s.Network) {
	case "", configs.NetworkFull:
	case configs.NetworkNone:
		if len(s.Ports) > 0 {
			return &InvalidError{What: "port", Value: s.Ports[0].String(), Why: "without a network none is reached", Hint: "leave out -p, or add --network full"}
		}
	default:
		return &InvalidError{What: "network", Value: s.Network, Why: "it is full or none"}
	}
	return nil
}

func (s *Spec) validatePorts() error {
	type endpoint struct {
		proto string
		port  int
	}
	inside, outside := map[endpoint]bool{}, map[endpoint]bool{}
	for _, p := range s.Ports {
		in, out := endpoint{p.Proto, p.Port}, endpoint{p.Proto, p.Host}
		if inside[in] || p.Host != 0 && outside[out] {
			return &InvalidError{What: "port", Value: p.String(), Why: "it is given twice"}
		}
		inside[in], outside[out] = true, true
		if p.Proto == "tcp" && p.Port >= firstPrivatePort && p.Port < firstPrivatePort+len(s.Ports) {
			return &InvalidError{What: "port", Value: p.String(), Why: fmt.Sprintf("ports from %d on are used inside the container to forward others", firstPrivatePort)}
		}
	}
	return nil
}

func (l Limits) validate() error {
	bad := func(what string, value any, err error) error {
		return &InvalidError{What: "limit of " + what, Value: fmt.Sprint(value), Why: err.Error()}
	}
	if err := configs.CheckCPUs(l.CPUs); err != nil && l.CPUs != 0 {
		return bad("cpus", l.CPUs, err)
	}
	if err := configs.CheckMemory(l.Memory); err != nil && l.Memory != 0 {
		return bad("memory", l.Memory, err)
	}
	if err := configs.CheckPids(l.Pids); err != nil && l.Pids != 0 {
		return bad("pids", l.Pids, err)
	}
	return nil
}

// image is the image to use.
func (s *Spec) image() string {
	if s.Image == "" {
		return configs.Image
	}
	return s.Image
}

// handleBase makes the beginning of a handle from the command: the name of the
// program, also of one behind a shell, environment settings or a wrapper that
// says little.
func (s *Spec) handleBase() string {
	words := s.Argv
	if len(words) == 3 && words[0] == "/bin/sh" && words[1] == "-c" {
		words = strings.Fields(words[2])
	}
	for _, w := range words {
		if strings.Contains(w, "=") || strings.HasPrefix(w, "-") {
			continue
		}
		w = filepath.Base(w)
		switch w {
		case "env", "exec", "sudo", "time", "nice", "nohup", "cd", "set":
			continue
		}
		clean := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, w)
		if clean = strings.Trim(clean, "-"); clean != "" {
			return clean[:min(len(clean), 20)]
		}
	}
	return "job"
}
