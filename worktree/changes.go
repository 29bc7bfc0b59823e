package worktree

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/worktree/overlay"
)

// changes collects what a job has changed in its files.
type changes struct {
	repo    *Repo
	read    Reader
	files   Files
	tmp     string
	base    *index            // the snapshot
	tracked func(string) bool // the snapshot or the job's commits have this file
	list    []overlay.Entry   // parents before children; nothing in it has a .git in its path
	skipped []Skipped
}

func (c *changes) skip(path, why string) {
	c.skipped = append(c.skipped, Skipped{Path: path, Why: why})
}

// find fills the list. It reads no contents but those of .gitignore files.
func (c *changes) find(ctx context.Context) error {
	known, _, err := readIndex(c.files.index, c.repo.hashSize())
	if c.files.index == "" {
		known, err = &index{}, nil
	}
	if err != nil {
		return err
	}
	whole := c.files.changed == len(c.files.Stack) // everything is listed, and nothing that is gone
	seen := map[string]bool{}
	var untracked []overlay.Entry
	err = c.read.Changes(ctx, c.files.Stack, c.files.changed, func(e overlay.Entry) error {
		name := e.Path[strings.LastIndexByte(e.Path, '/')+1:]
		switch {
		case e.Path == ".":
			return nil
		case name == ".git":
			if e.Path != ".git" && e.Kind != overlay.Gone {
				c.skip(e.Path, "is a nested repository's; the files beside it are kept")
			}
			return nil
		}
		if why := badName(e.Path, e.Kind == overlay.Link); why != "" {
			if e.Kind != overlay.Gone {
				c.skip(e.Path, why)
			}
			return nil
		}
		switch e.Kind {
		case overlay.Gone:
			c.list = append(c.list, e)
		case overlay.Dir:
			if c.tracked(e.Path) { // what was a file
				c.list = append(c.list, overlay.Entry{Path: e.Path, Kind: overlay.Gone})
			} else if !c.base.has(e.Path) {
				untracked = append(untracked, e)
			}
		case overlay.File, overlay.Link:
			switch {
			case whole && c.base.find(e.Path) == nil && carried(e, known):
				return nil
			case !c.tracked(e.Path):
				untracked = append(untracked, e)
				if c.base.has(e.Path) { // also when it is ignored
					c.list = append(c.list, overlay.Entry{Path: e.Path, Kind: overlay.Gone})
				}
			case whole && c.unchanged(e, known):
				seen[e.Path] = true
			default:
				seen[e.Path] = true
				c.list = append(c.list, e)
			}
		default:
			c.skip(e.Path, "is a socket, pipe or device")
			c.list = append(c.list, overlay.Entry{Path: e.Path, Kind: overlay.Gone})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if whole {
		var gone []overlay.Entry
		for _, e := range c.base.entries {
			if !seen[e.path] {
				gone = append(gone, overlay.Entry{Path: e.path, Kind: overlay.Gone})
			}
		}
		c.list = append(gone, c.list...) // before what has come in its place
	}
	return c.addUntracked(ctx, untracked)
}

// unchanged says whether a file is as it was checked out. A job cannot set the time of change that the kernel keeps.
func (c *changes) unchanged(e overlay.Entry, known *index) bool {
	k, b := known.find(e.Path), c.base.find(e.Path)
	return k != nil && b != nil && b.oid == k.oid && b.mode == k.mode && b.mode == c.mode(e) && e.Kind == overlay.File &&
		sameStat(e, k.stat) && e.Ctime.Before(known.mtime) // else it may have been written twice in one tick of the clock
}

// carried says whether a file that the snapshot does not have was put there before the job began, and has not been touched.
func carried(e overlay.Entry, known *index) bool {
	k := known.find(e.Path)
	return k != nil && (e.Kind == overlay.Link || sameStat(e, k.stat))
}

func sameStat(e overlay.Entry, s stat) bool {
	return s != (stat{}) && uint32(e.Size) == s.size && uint32(e.Ino) == s.ino &&
		sameTime(e.Mtime, s.mtimeSec, s.mtimeNsec) && sameTime(e.Ctime, s.ctimeSec, s.ctimeNsec)
}

func sameTime(t time.Time, sec, nsec uint32) bool {
	return uint32(t.Unix()) == sec && uint32(t.Nanosecond()) == nsec
}

// mode is the one git has for an entry.
func (c *changes) mode(e overlay.Entry) uint32 {
	switch b := c.base.find(e.Path); {
	case e.Kind == overlay.Link:
		return modeLink
	case c.repo.config.get("core.filemode") == "false":
		if b != nil && b.mode&0o170000 == 0o100000 {
			return b.mode
		}
	case e.Perm&0o100 != 0:
		return modeExec
	}
	return modeFile
}

const (
	modeFile = 0o100644
	modeExec = 0o100755
	modeLink = 0o120000
)

// maxIgnoreFile is the size in bytes past which a .gitignore file does not count.
const maxIgnoreFile = 1 << 20

// addUntracked lists what of the untracked entries is not ignored.
func (c *changes) addUntracked(ctx context.Context, untracked []overlay.Entry) error {
	if len(untracked) == 0 {
		return nil
	}
	ig, err := c.repo.ignorer(c.tmp)
	if err != nil {
		return err
	}
	var fresh []string // .gitignore files below directories that are new themselves, and may be ignored
	var known []string
	for _, e := range slices.Concat(c.list, untracked) {
		dir, name := path.Split(e.Path)
		if name != ".gitignore" || e.Kind != overlay.File || e.Size > maxIgnoreFile {
			continue
		}
		if dir == "" || c.base.has(strings.TrimSuffix(dir, "/")) {
			known = append(known, e.Path)
		} else {
			fresh = append(fresh, e.Path)
		}
	}
	if err := c.unchangedIgnores(ctx, ig); err != nil {
		return err
	}
	if err := c.readIgnores(ctx, ig, known); err != nil {
		return err
	}
	if len(fresh) > 0 {
		var dirs []string
		for _, e := range untracked {
			if e.Kind == overlay.Dir {
				dirs = append(dirs, e.Path+"/")
			}
		}
		ignored, err := ig.ask(ctx, dirs)
		if err != nil {
			return err
		}
		in := map[string]bool{}
		for d := range ignored {
			in[strings.TrimSuffix(d, "/")] = true
		}
		untracked = slices.DeleteFunc(untracked, func(e overlay.Entry) bool { return in[e.Path] || below(e.Path, in) })
		fresh = slices.DeleteFunc(fresh, func(p string) bool { return below(p, in) })
		if err := c.readIgnores(ctx, ig, fresh); err != nil {
			return err
		}
	}
	var names []string
	for _, e := range untracked {
		if e.Kind != overlay.Dir {
			names = append(names, e.Path)
		}
	}
	ignored, err := ig.ask(ctx, names)
	if err != nil {
		return err
	}
	for _, e := range untracked {
		if e.Kind != overlay.Dir && !ignored[e.Path] {
			c.list = append(c.list, e)
		}
	}
	return nil
}

// unchangedIgnores adds the .gitignore files that the job has left as they were.
func (c *changes) unchangedIgnores(ctx context.Context, ig *ignorer) error {
	gone := map[string]bool{}
	for _, e := range c.list {
		gone[e.Path] = true
	}
	var paths, oids []string
	for _, e := range c.base.entries {
		if path.Base(e.path) == ".gitignore" && (e.mode == modeFile || e.mode == modeExec) && !gone[e.path] && !below(e.path, gone) {
			paths, oids = append(paths, e.path), append(oids, hex.EncodeToString([]byte(e.oid)))
		}
	}
	return c.repo.blobs(ctx, oids, func(i int, size int64, in io.Reader) error {
		if size > maxIgnoreFile {
			return nil
		}
		return ig.add(paths[i], in)
	})
}

func (c *changes) readIgnores(ctx context.Context, ig *ignorer, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	return c.read.Read(ctx, c.files.Stack, paths, func(e overlay.Entry, in io.Reader) error {
		return ig.add(e.Path, io.LimitReader(in, maxIgnoreFile))
	})
}

// leaveOutLarge takes the largest files out of the list until the others have limit bytes together; 0 is no limit.
func (c *changes) leaveOutLarge(limit int64) {
	var all int64
	var sizes []int64
	for _, e := range c.list {
		if e.Kind == overlay.File {
			all += e.Size
			sizes = append(sizes, e.Size)
		}
	}
	if limit == 0 || all <= limit {
		return
	}
	slices.Sort(sizes)
	most := limit
	for all > limit {
		most = sizes[len(sizes)-1]
		sizes = sizes[:len(sizes)-1]
		all -= most
	}
	c.list = slices.DeleteFunc(c.list, func(e overlay.Entry) bool {
		large := e.Kind == overlay.File && e.Size >= most
		if large {
			c.skip(e.Path, fmt.Sprintf("has %d MB, which are not kept", e.Size/1e6))
		}
		return large
	})
}

// inMemory is the size in bytes up to which a file is read as a whole, so that it may change its size meanwhile.
const inMemory = 4 << 20

// errChanging is a large file that a running job cuts off while it is read.
var errChanging = errors.New("it is being written; try again")

// store puts the contents into the object store, and returns the id of the tree with all changes.
func (c *changes) store(ctx context.Context, base string) (string, error) {
	if len(c.list) == 0 {
		return base, nil
	}
	repo, err := os.MkdirTemp(c.tmp, "import-")
	if err != nil {
		return "", err
	}
	g, err := c.repo.scratch(source{root: repo}, repo)
	if err != nil {
		return "", err
	}
	// Objects go into a store that git sees the others from: what they have is not stored again. Packs are not unpacked there, which
	// would touch the times of objects of the user's.
	g.objects = filepath.Join(repo, "objects")
	g.config = append(g.config, "fastimport.unpackLimit=0")
	if err := c.repo.borrow(repo); err != nil {
		return "", err
	}
	out, err := g.feed(ctx, func(w io.Writer) error { return c.write(ctx, w, base) }, "fast-import", "--quiet", "--done", "--date-format=raw")
	if err != nil {
		return "", err
	}
	f := strings.Fields(string(out))
	if len(f) < 3 || f[1] != "tree" || !c.repo.isID(f[2]) {
		return "", errors.New("git fast-import: unexpected answer")
	}
	return f[2], c.repo.takeObjects(ctx, g.objects)
}

// write is what fast-import reads.
func (c *changes) write(ctx context.Context, w io.Writer, base string) error {
	var paths []string
	for _, e := range c.list {
		if e.Kind == overlay.File {
			paths = append(paths, e.Path)
		}
	}
	marks := map[string]int{}
	if len(paths) > 0 {
		err := c.read.Read(ctx, c.files.Stack, paths, func(e overlay.Entry, in io.Reader) error {
			marks[e.Path] = len(marks) + 1
			fmt.Fprintf(w, "blob\nmark :%d\n", marks[e.Path])
			if e.Size <= inMemory {
				var b bytes.Buffer
				if _, err := io.Copy(&b, io.LimitReader(in, inMemory)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // it may have shrunk
					return err
				}
				fmt.Fprintf(w, "data %d\n", b.Len())
				_, err := b.WriteTo(w)
				return err
			}
			fmt.Fprintf(w, "data %d\n", e.Size)
			n, err := io.Copy(w, io.LimitReader(in, e.Size))
			if n < e.Size && (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) {
				err = fmt.Errorf("read %s: %w", quotePath(e.Path), errChanging)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	const who = "committer berth <berth@localhost> 0 +0000\ndata 0\n"
	fmt.Fprint(w, "commit refs/heads/result\nmark :", len(marks)+1, "\n", who)
	if len(c.base.entries) > 0 {
		fmt.Fprintf(w, "M 040000 %s \"\"\n", base)
	}
	for _, e := range c.list {
		mark, there := marks[e.Path]
		switch {
		case e.Kind == overlay.File && there:
			fmt.Fprintf(w, "M %o :%d %s\n", c.mode(e), mark, quoteC(e.Path))
		case e.Kind == overlay.Link:
			fmt.Fprintf(w, "M %o inline %s\ndata %d\n%s\n", modeLink, quoteC(e.Path), len(e.Target), e.Target)
		default:
			fmt.Fprintf(w, "D %s\n", quoteC(e.Path))
		}
	}
	_, err := fmt.Fprintf(w, "\nls :%d \"\"\ndone\n", len(marks)+1)
	return err
}
