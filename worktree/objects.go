package worktree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stores are the object stores that berth's repository borrows from, as alternates of another one.
func (r *Repo) stores() ([]string, error) { return alternates(filepath.Join(r.bare(), "objects")) }

// borrow lets the git directory dir read all that berth's repository can.
func (r *Repo) borrow(dir string) error {
	stores, err := r.stores()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "objects/info/alternates"), []byte(strings.Join(stores, "\n")+"\n"), 0o600)
}

// borrowed is the same for a git whose objects go into a store that borrows from nobody, as an environment variable.
func (r *Repo) borrowed() (string, error) {
	stores, err := r.stores()
	for i, s := range stores {
		stores[i] = quoteC(s)
	}
	return "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + strings.Join(stores, ":"), err
}

// smallPack is the size in bytes of a pack up to which its objects are stored one by one: many packs make every git slow.
const smallPack = 1 << 20

// takeObjects moves the packs of a temporary store, which are whole, to where new objects go.
func (r *Repo) takeObjects(ctx context.Context, from string) error {
	packs, err := filepath.Glob(filepath.Join(globQuoter.Replace(from), "pack/pack-*.pack"))
	if err != nil {
		return err
	}
	for _, p := range packs {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if info.Size() <= smallPack {
			if err := r.unpack(ctx, p); err != nil {
				return err
			}
			continue
		}
		for _, ext := range []string{".pack", ".idx"} { // the index last: it is what makes git see the pack
			name := strings.TrimSuffix(p, ".pack") + ext
			if err := os.Rename(name, filepath.Join(r.written(), "pack", filepath.Base(name))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Repo) unpack(ctx context.Context, pack string) error {
	f, err := os.Open(pack)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = git{gitDir: r.bare(), objects: r.written(), stdin: f}.run(ctx, "unpack-objects", "-q")
	return err
}

// blobs hands the contents of blobs to fn, in the order asked for.
func (r *Repo) blobs(ctx context.Context, oids []string, fn func(i int, size int64, in io.Reader) error) error {
	if len(oids) == 0 {
		return nil
	}
	g := git{gitDir: r.bare(), stdin: strings.NewReader(strings.Join(oids, "\n") + "\n")}
	return g.read(ctx, func(out io.Reader) error {
		b := bufio.NewReader(out)
		for i, oid := range oids {
			head, err := b.ReadString('\n')
			if err != nil {
				return err
			}
			f := strings.Fields(head)
			if len(f) != 3 || f[1] != "blob" {
				return fmt.Errorf("git cat-file: %s is no file's contents", oid)
			}
			size, err := strconv.ParseInt(f[2], 10, 64)
			if err != nil {
				return err
			}
			in := io.LimitReader(b, size)
			if err := fn(i, size, in); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, in); err != nil {
				return err
			}
			if c, err := b.ReadByte(); err != nil || c != '\n' {
				return errors.Join(errors.New("git cat-file: unexpected answer"), err)
			}
		}
		return nil
	}, "cat-file", "--batch")
}

// storeBlob stores contents as they are.
func (r *Repo) storeBlob(ctx context.Context, data []byte) (oid string, err error) {
	out, err := git{gitDir: r.bare(), objects: r.written(), stdin: strings.NewReader(string(data))}.run(ctx, "hash-object", "-w", "--stdin", "--no-filters")
	return strings.TrimSpace(string(out)), err
}
