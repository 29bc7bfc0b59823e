package worktree

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// index is a git index in memory. It is read and written here, and not through git, because no git command tells flags,
// stages and stat data of an entry in a format that is promised to stay, and because the index of
// a job is put together from two.
type index struct {
	entries []entry // sorted by path, then stage
	mtime   time.Time
	sparse  bool // has whole directories as entries; only git can expand them
	split   bool // most entries are in another file; only git can join them
}

type entry struct {
	path   string
	mode   uint32
	oid    string // raw bytes
	stat   stat
	stage  uint8
	assume bool // assume-unchanged
	skip   bool // skip-worktree: not there in a sparse checkout
	intend bool // intent-to-add
}

// stat is what the index knows of the file on disk. The zero value makes git look at the contents.
type stat struct {
	ctimeSec, ctimeNsec, mtimeSec, mtimeNsec, dev, ino uint32
	uid, gid, size                                     uint32
}

const (
	modeGitlink = 0o160000
	modeDir     = 0o040000

	flagAssume   = 0x8000
	flagExtended = 0x4000
	flagStage    = 0x3000
	flagNameLen  = 0x0fff
	extSkip      = 0x4000
	extIntend    = 0x2000
)

var errIndex = errors.New("the git index is damaged or of an unknown format")

// readIndex reads the index at path without following a symbolic link. There is nothing in an index that does not exist.
func readIndex(path string, hashSize int) (*index, []byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return &index{}, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the git index: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read the git index: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("read %s: %w", path, errIndex)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, fmt.Errorf("read the git index: %w", err)
	}
	x, err := parseIndex(data, hashSize)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	// The time is part of the contents: git trusts only entries whose files are older than the index.
	x.mtime = info.ModTime()
	return x, data, nil
}

func parseIndex(data []byte, hashSize int) (*index, error) {
	if len(data) < 12+hashSize || string(data[:4]) != "DIRC" {
		return nil, errIndex
	}
	version, count := binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
	if version < 2 || version > 4 || int(count) > len(data)/(42+hashSize) {
		return nil, errIndex
	}
	end := len(data) - hashSize
	x := &index{entries: make([]entry, 0, count)}
	pos, previous := 12, ""
	for range count {
		head := 40 + hashSize + 2
		if pos+head > end {
			return nil, errIndex
		}
		var n [10]uint32
		for i := range n {
			n[i] = binary.BigEndian.Uint32(data[pos+4*i:])
		}
		e := entry{mode: n[6], stat: stat{n[0], n[1], n[2], n[3], n[4], n[5], n[7], n[8], n[9]}}
		e.oid = string(data[pos+40 : pos+40+hashSize])
		flags := binary.BigEndian.Uint16(data[pos+head-2:])
		e.assume, e.stage = flags&flagAssume != 0, uint8(flags&flagStage>>12)
		if flags&flagExtended != 0 {
			if pos+head+2 > end {
				return nil, errIndex
			}
			ext := binary.BigEndian.Uint16(data[pos+head:])
			e.skip, e.intend = ext&extSkip != 0, ext&extIntend != 0
			head += 2
		}
		name := pos + head
		if version == 4 { // the path is what is left of the one before, and a new tail
			strip, n := 0, 0
			for {
				if name+n >= end || n > 4 {
					return nil, errIndex
				}
				c := data[name+n]
				n++
				strip = strip<<7 + int(c&127)
				if c&128 == 0 {
					break
				}
				strip++
			}
			name += n
			if strip > len(previous) {
				return nil, errIndex
			}
			previous = previous[:len(previous)-strip]
		} else {
			previous = ""
		}
		nul := bytes.IndexByte(data[name:end], 0)
		if nul < 0 {
			return nil, errIndex
		}
		e.path = previous + string(data[name:name+nul])
		previous = e.path
		pos = name + nul + 1
		if version != 4 {
			pos = name + nul + 8 - (head+nul)%8
		}
		x.sparse = x.sparse || e.mode == modeDir
		x.entries = append(x.entries, e)
	}
	for pos+8 <= end {
		name, size := string(data[pos:pos+4]), int(binary.BigEndian.Uint32(data[pos+4:]))
		if size < 0 || size > end-pos-8 {
			return nil, errIndex
		}
		x.split = x.split || name == "link"
		x.sparse = x.sparse || name == "sdir"
		pos += 8 + size
	}
	return x, nil
}

// write replaces the index at path. Extensions are left out: git makes them again.
func (x *index) write(path string, hashSize int) error {
	version := uint32(2)
	for _, e := range x.entries {
		if e.skip || e.intend {
			version = 3
		}
	}
	b := make([]byte, 0, 12+len(x.entries)*(62+hashSize))
	b = append(b, "DIRC"...)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(x.entries)))
	for _, e := range x.entries {
		start, s := len(b), e.stat
		for _, n := range [...]uint32{s.ctimeSec, s.ctimeNsec, s.mtimeSec, s.mtimeNsec, s.dev, s.ino, e.mode, s.uid, s.gid, s.size} {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		b = append(b, e.oid...)
		flags, ext := uint16(min(len(e.path), flagNameLen))|uint16(e.stage)<<12, uint16(0)
		if e.assume {
			flags |= flagAssume
		}
		if e.skip {
			ext |= extSkip
		}
		if e.intend {
			ext |= extIntend
		}
		if ext != 0 {
			b = binary.BigEndian.AppendUint16(b, flags|flagExtended)
			b = binary.BigEndian.AppendUint16(b, ext)
		} else {
			b = binary.BigEndian.AppendUint16(b, flags)
		}
		b = append(b, e.path...)
		b = append(b, make([]byte, 8-(len(b)-start)%8)...)
	}
	var h hash.Hash = sha1.New()
	if hashSize == sha256.Size {
		h = sha256.New()
	}
	h.Write(b)
	if err := writeFile(path, string(h.Sum(b))); err != nil {
		return err
	}
	if x.mtime.IsZero() {
		return nil
	}
	return os.Chtimes(path, x.mtime, x.mtime)
}

func (x *index) sort() {
	slices.SortFunc(x.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.stage, b.stage))
	})
}

// find is the entry at stage 0 of path, or nil.
func (x *index) find(path string) *entry {
	i, ok := slices.BinarySearchFunc(x.entries, path, func(e entry, p string) int { return cmp.Compare(e.path, p) })
	if !ok || x.entries[i].stage != 0 {
		return nil
	}
	return &x.entries[i]
}

// gitMode is the mode that git gives to a file or link.
func gitMode(m fs.FileMode) uint32 {
	switch {
	case m&fs.ModeSymlink != 0:
		return 0o120000
	case m&0o100 != 0:
		return 0o100755
	}
	return 0o100644
}
