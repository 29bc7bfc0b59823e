package overlay

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes in which overlayfs keeps notes.
const (
	attrOpaque   = "trusted.overlay.opaque"   // "y": nothing from below; "x", there are attrWhiteouts in it, says no such thing
	attrRedirect = "trusted.overlay.redirect" // where the directory's lower parts are
	attrWhiteout = "trusted.overlay.whiteout" // an empty file with it is a whiteout
)

// view is a directory as a stack shows it: its parts in the layers, uppermost first.
type view []*node

// found is what a name stands for.
type found struct {
	st    unix.Stat_t // of the uppermost part
	in    *node       // where that is
	name  string      // and how it is called there
	parts view        // of a directory
}

func (f *found) isDir() bool { return f != nil && len(f.parts) > 0 }

// query is a lookup on its way down the layers.
type query struct {
	name  string // or an absolute path, once a redirect was met
	isDir bool   // a directory was found above
	stop  bool   // what is further down is hidden
}

// lookup finds a name in a directory; nil when nothing is there. It does what the kernel's ovl_lookup does: with each layer
// it goes down by one, wherever a redirect leads, so no lookup is endless.
func (w *walker) lookup(dir view, name string) (*found, error) {
	q := query{name: name}
	var f *found
	absolute := false
	for i := 0; i < len(dir) && !q.stop; i++ {
		at := dir[i]
		part, err := w.lookupLayer(at, &q)
		if err != nil {
			return nil, err
		}
		if part != nil {
			if f == nil {
				f = part
			} else {
				f.parts = append(f.parts, part.parts...)
			}
		}
		if !absolute && q.name[0] == '/' { // it goes on below this layer, from the top
			absolute, dir, i = true, w.tops, at.layer
		}
	}
	return f, nil
}

// lookupLayer looks in one layer: for a name in a directory, or for a path from its top.
func (w *walker) lookupLayer(dir *node, q *query) (*found, error) {
	if q.name[0] != '/' {
		return w.lookupName(dir, q, q.name, 0, "")
	}
	// Counted from the end, since a redirect on the way may change what was before.
	for rest := len(q.name) - 1; ; {
		from := len(q.name) - rest
		name, _, _ := strings.Cut(q.name[from:], "/")
		after := q.name[from+len(name):]
		f, err := w.lookupName(dir, q, name, from, after)
		if f == nil || err != nil || after == "" {
			return f, err
		}
		dir = f.parts[0]
		rest -= len(name) + 1
	}
}

// lookupName looks for one part of q.name, which begins there at from and is followed by after. It notes in q how things go
// on in the layers below.
func (w *walker) lookupName(dir *node, q *query, name string, from int, after string) (*found, error) {
	f := &found{in: dir, name: name}
	if err := w.stat(dir, name, &f.st); vanished(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	white, err := w.isWhiteout(f)
	if white || err != nil {
		q.stop = true
		return nil, err
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		q.stop = true
		if q.isDir || after != "" {
			return nil, nil
		}
		return f, nil
	}
	q.isDir = q.isDir || after == ""
	n := &node{layer: dir.layer, parent: dir, name: name, dev: uint64(f.st.Dev), ino: f.st.Ino, fd: -1}
	f.parts = view{n}
	if dir.layer == len(w.tops)-1 {
		return f, nil // nothing is below that could be hidden
	}
	opaque, err := w.attr(n, attrOpaque)
	if vanished(err) {
		q.stop = true
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if opaque == "y" {
		q.stop = true
		return f, nil
	}
	redirect, err := w.attr(n, attrRedirect)
	switch {
	case err != nil && !vanished(err):
		return nil, err
	case redirect == "":
	case !validRedirect(redirect):
		q.stop = true // the kernel gives the directory out with an error; we with what it holds itself
	case redirect[0] == '/':
		q.name, q.stop = redirect+after, false // also when a directory on the way was opaque
	default:
		q.name = q.name[:from] + redirect + after
	}
	return f, nil
}

// validRedirect is false for what would leave a layer, or what no kernel has written.
func validRedirect(r string) bool {
	if r[0] != '/' && strings.Contains(r, "/") {
		return false
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(r, "/"), "/") {
		if name == "" || name == "." || name == ".." || strings.Contains(name, "\x00") {
			return false
		}
	}
	return true
}

// sameBelow tells whether two views have the same parts from layer n on.
func sameBelow(a, b view, n int) bool {
	below := func(v view) view {
		for len(v) > 0 && v[0].layer < n {
			v = v[1:]
		}
		return v
	}
	a, b = below(a), below(b)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].layer != b[i].layer || a[i].dev != b[i].dev || a[i].ino != b[i].ino {
			return false
		}
	}
	return true
}
