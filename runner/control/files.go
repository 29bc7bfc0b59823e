package control

import (
	"errors"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"berth/worktree/overlay"
)

// Operations of `berth-init helper`, which reads layers and removes them for a caller who is not root. A request is one line on its
// input. The answer, on its output, is any number of [OpEntry], each followed by the file's content if that was asked for, and then one
// [OpDone]:
//
//	changes  layer=DIR... n=N
//	list     layer=DIR... path=P
//	read     layer=DIR... path=P...
//	empty    dir=DIR...
//
//	entry    one thing, see [EntryMessage]
//	chunk    size=N: N bytes of the content of the last entry follow this line
//	end      short=0|1: the content is complete, or the file has shrunk meanwhile
//	done     errno=N error=TEXT, without a text when all went well
const (
	OpChanges = "changes"
	OpList    = "list"
	OpRead    = "read"
	OpEmpty   = "empty"
	OpEntry   = "entry"
	OpChunk   = "chunk"
	OpDone    = "done"
)

// EntryMessage encodes an entry.
func EntryMessage(e overlay.Entry) Message {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	m := Message{Op: OpEntry}.
		Add("path", e.Path).
		Add("kind", string(e.Kind)).
		AddInt("perm", int(e.Perm)).
		Add("size", number(e.Size)).
		Add("ino", strconv.FormatUint(e.Ino, 10))
	if e.Target != "" {
		m = m.Add("target", e.Target)
	}
	if !e.Mtime.IsZero() {
		m = m.Add("mtime", number(e.Mtime.Unix())).AddInt("mtime_ns", e.Mtime.Nanosecond())
	}
	if !e.Ctime.IsZero() {
		m = m.Add("ctime", number(e.Ctime.Unix())).AddInt("ctime_ns", e.Ctime.Nanosecond())
	}
	return m
}

// ParseEntry decodes what EntryMessage encoded.
func ParseEntry(m Message) (overlay.Entry, error) {
	var errs []error
	number := func(key string) int64 {
		n, err := strconv.ParseInt(m.Get(key), 10, 64)
		errs = append(errs, err)
		return n
	}
	instant := func(key string) time.Time {
		if m.Get(key) == "" {
			return time.Time{}
		}
		return time.Unix(number(key), number(key+"_ns"))
	}
	e := overlay.Entry{
		Path:   m.Get("path"),
		Kind:   overlay.Kind(m.Get("kind")),
		Perm:   fs.FileMode(number("perm")) & fs.ModePerm,
		Size:   number("size"),
		Target: m.Get("target"),
		Mtime:  instant("mtime"),
		Ctime:  instant("ctime"),
	}
	ino, err := strconv.ParseUint(m.Get("ino"), 10, 64)
	e.Ino = ino
	if errors.Join(append(errs, err)...) != nil || m.Op != OpEntry || e.Path == "" || e.Size < 0 {
		return overlay.Entry{}, ErrMalformed
	}
	return e, nil
}

// DoneMessage encodes how a request ended. Of an error the text and the system's number travel.
func DoneMessage(err error) Message {
	m := Message{Op: OpDone}
	if err == nil {
		return m
	}
	var number syscall.Errno
	switch {
	case errors.As(err, &number):
	case errors.Is(err, fs.ErrNotExist):
		number = syscall.ENOENT
	case errors.Is(err, fs.ErrPermission):
		number = syscall.EACCES
	}
	return m.AddInt("errno", int(number)).Add("error", err.Error())
}

// ParseDone decodes what DoneMessage encoded. The error answers to [errors.Is] as the original's system error does.
func ParseDone(m Message) error {
	text := m.Get("error")
	if text == "" {
		return nil
	}
	return &RemoteError{Text: text, Errno: syscall.Errno(m.Int("errno"))}
}

// RemoteError is an error that a helper reported.
type RemoteError struct {
	Text  string
	Errno syscall.Errno // 0 when it came from nothing that the system said
}

func (e *RemoteError) Error() string { return e.Text }

func (e *RemoteError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}
