package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"berth/worktree/overlay"
)

// Limits on what is taken of a job's git directory.
const (
	maxHeadFile   = 4 << 10 // bytes
	maxPackedRefs = 16 << 20
	maxObjects    = 500_000 // files
	maxObjectSize = 4 << 30 // bytes of all files together
	maxGitAlloc   = 1 << 30 // bytes that git may ask for at once while it reads them
)

// commits finds out which commit the job's HEAD is at and stores what it needs. head is "" when that is where the job started. A
// [*CommitsError] says what is wrong with the job's git directory; nothing in that is run, configured or followed: not hooks, configuration,
// alternates, grafts, replacements or symbolic links.
func (r *Repo) commits(ctx context.Context, read Reader, f Files, tmp string) (head, branch string, err error) {
	head, branch, err = r.jobHead(ctx, read, f)
	if err != nil || head == "" || head == f.commit {
		return "", branch, err
	}
	known, err := r.known(ctx, []string{head + "^{commit}"})
	if err != nil {
		return "", "", err
	}
	if known[0] {
		return head, branch, nil // a commit of the user's, or one that was taken before
	}
	if err := r.takeCommits(ctx, read, f, head, tmp); err != nil {
		return "", branch, err
	}
	// Its file may have had the contents of another object.
	if known, err = r.known(ctx, []string{head + "^{commit}"}); err == nil && !known[0] {
		err = &CommitsError{Why: "the one at its HEAD is damaged"}
	}
	if err != nil {
		return "", branch, err
	}
	return head, branch, nil
}

// jobHead reads HEAD as git would, but for following links. head is "" when there is no commit.
func (r *Repo) jobHead(ctx context.Context, read Reader, f Files) (head, branch string, err error) {
	get := func(name string, limit int64) (text string, err error) {
		err = read.Read(ctx, f.git, []string{path.Join(f.gitPath, name)}, func(e overlay.Entry, in io.Reader) error {
			if e.Size > limit {
				return &CommitsError{Why: name + " is too large"}
			}
			data, err := io.ReadAll(io.LimitReader(in, limit))
			text = string(data)
			return err
		})
		return text, err
	}
	value, err := get("HEAD", maxHeadFile)
	if err != nil {
		return "", "", err
	}
	var packed string
	for depth := range 6 {
		value = strings.TrimRight(value, " \t\r\n")
		ref, symbolic := strings.CutPrefix(value, "ref:")
		if !symbolic {
			break
		}
		ref = strings.TrimLeft(ref, " \t")
		if depth == 5 || !validRef(ref) {
			return "", "", &CommitsError{Why: "its HEAD is damaged"}
		}
		if depth == 0 {
			branch, _ = strings.CutPrefix(ref, "refs/heads/")
		}
		if value, err = get(ref, maxHeadFile); err != nil {
			return "", "", err
		}
		if value != "" {
			continue
		}
		if packed == "" {
			if packed, err = get("packed-refs", maxPackedRefs); err != nil {
				return "", "", err
			}
		}
		for line := range strings.Lines(packed) {
			if id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && name == ref {
				value = id
			}
		}
	}
	if value == "" {
		return "", branch, nil
	}
	if !r.isID(value) {
		return "", "", &CommitsError{Why: "its HEAD is damaged"}
	}
	return value, branch, nil
}

// validRef says whether a ref's name is a path below refs/ and nothing else.
func validRef(ref string) bool {
	return strings.HasPrefix(ref, "refs/") && filepath.IsLocal(ref) && path.Clean(ref) == ref && !strings.ContainsAny(ref, "\x00\n\r\\ ~^:?*[")
}

// known tells which objects berth's repository has, the user's included.
func (r *Repo) known(ctx context.Context, names []string) ([]bool, error) {
	g := git{gitDir: r.bare(), stdin: strings.NewReader(strings.Join(names, "\n") + "\n")}
	out, err := g.run(ctx, "cat-file", "--batch-check=%(objectname)")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(names) {
		return nil, errors.New("git cat-file: unexpected answer")
	}
	known := make([]bool, len(names))
	for i, l := range lines {
		known[i] = r.isID(l)
	}
	return known, nil
}

var (
	looseObject = regexp.MustCompile(`^[0-9a-f]{2}/([0-9a-f]{38}|[0-9a-f]{62})$`)
	packFile    = regexp.MustCompile(`^pack/pack-([0-9a-f]{40}|[0-9a-f]{64})\.pack$`)
)

// takeCommits stores head and what it needs. The job's object files are copied into a clean git directory, where nothing but objects can
// have an effect; from there goes on what head reaches and the user does not have, checked on arrival as after a fetch.
func (r *Repo) takeCommits(ctx context.Context, read Reader, f Files, head, tmp string) error {
	dir, err := os.MkdirTemp(tmp, "commits-")
	if err != nil {
		return err
	}
	g, err := r.scratch(source{root: dir}, dir)
	if err != nil {
		return err
	}
	g.objects = ""
	g.env = append(g.env, "GIT_NO_REPLACE_OBJECTS=1", fmt.Sprintf("GIT_ALLOC_LIMIT=%d", maxGitAlloc))
	packs, err := r.copyObjects(ctx, read, f, filepath.Join(dir, "objects"))
	if err != nil {
		return err
	}
	if err := r.borrow(dir); err != nil {
		return err
	}
	if shallow := readSmall(filepath.Join(r.commonDir, "shallow")); shallow != "" {
		if err := os.WriteFile(filepath.Join(dir, "shallow"), []byte(shallow), 0o600); err != nil {
			return err
		}
	}
	for _, p := range packs {
		if _, err := g.run(ctx, "index-pack", fmt.Sprintf("--max-input-size=%d", maxObjectSize), p); err != nil {
			return unusable(ctx, err)
		}
	}
	pack, err := os.Create(filepath.Join(dir, "new.pack"))
	if err != nil {
		return err
	}
	defer pack.Close()
	if err := r.pack(ctx, g, head, f.commit, pack); err != nil {
		return unusable(ctx, err)
	}
	if _, err := pack.Seek(0, io.SeekStart); err != nil {
		return err
	}
	borrowed, err := r.borrowed()
	if err != nil {
		return err
	}
	in := git{gitDir: r.bare(), objects: r.written(), stdin: pack, env: append(g.env, borrowed)}
	if _, err := in.run(ctx, "index-pack", "--stdin", "--strict", "--fsck-objects"); err != nil {
		return unusable(ctx, err)
	}
	return nil
}

// unusable is the error for objects of a job's that git does not take.
func unusable(ctx context.Context, err error) error {
	var failed *GitError
	if ctx.Err() != nil || !errors.As(err, &failed) || exitCode(err) < 0 || strings.Contains(failed.Stderr, "No space left") {
		return err
	}
	return &CommitsError{Why: failed.Error()}
}

// pack writes head and what it needs, without what the user's refs and start have.
func (r *Repo) pack(ctx context.Context, g git, head, start string, w io.Writer) error {
	tips, err := r.tips(ctx, start)
	if err != nil {
		return err
	}
	g.stdout = w
	_, err = g.feed(ctx, func(w io.Writer) error {
		_, err := io.WriteString(w, head+"\n--not\n"+strings.Join(append(tips, ""), "\n"))
		return err
	}, "pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset")
	return err
}

// tips are the commits that the user's repository has for certain: those of its refs, and start.
func (r *Repo) tips(ctx context.Context, start string) ([]string, error) {
	out, err := r.userGit().run(ctx, "for-each-ref", "--format=%(objectname)")
	if err != nil {
		return nil, err
	}
	tips := strings.Fields(string(out))
	if start != "" {
		tips = append(tips, start)
	}
	if len(tips) == 0 {
		return nil, nil
	}
	known, err := r.known(ctx, tips)
	if err != nil {
		return nil, err
	}
	have := tips[:0]
	for i, t := range tips {
		if known[i] {
			have = append(have, t)
		}
	}
	return have, nil
}

// copyObjects copies the object files of the job's own git directory and returns the packs, which have no index yet.
func (r *Repo) copyObjects(ctx context.Context, read Reader, f Files, to string) (packs []string, err error) {
	top := path.Join(f.gitPath, "objects")
	var paths []string
	var size int64
	err = read.List(ctx, f.git, top, func(e overlay.Entry) error {
		name := strings.TrimPrefix(e.Path, top+"/")
		if e.Kind != overlay.File || !looseObject.MatchString(name) && !packFile.MatchString(name) {
			return nil
		}
		paths = append(paths, e.Path)
		if size += e.Size; size > maxObjectSize || len(paths) > maxObjects {
			return &CommitsError{Why: fmt.Sprintf("there are more than %d objects or %d GB of them", maxObjects, maxObjectSize>>30)}
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, &CommitsError{Why: "their objects are missing"}
	}
	size = 0
	err = read.Read(ctx, f.git, paths, func(e overlay.Entry, in io.Reader) error {
		file := filepath.Join(to, strings.TrimPrefix(e.Path, top+"/"))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		n, err := io.Copy(out, io.LimitReader(in, maxObjectSize-size+1))
		if size += n; err == nil && size > maxObjectSize {
			err = &CommitsError{Why: "their objects are too large"}
		}
		if strings.HasSuffix(file, ".pack") {
			packs = append(packs, file)
		}
		return errors.Join(err, out.Close())
	})
	return packs, err
}
