package worktree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rounds is how often each thing is done; the medians are reported.
const rounds = 5

// median runs a thing several times and gives the median of its times in milliseconds. before is not timed.
func median(b *testing.B, before, run func(i int)) float64 {
	b.Helper()
	times := make([]time.Duration, rounds)
	for i := range times {
		if before != nil {
			before(i)
		}
		begun := time.Now()
		run(i)
		times[i] = time.Since(begun)
	}
	slices.Sort(times)
	return float64(times[rounds/2].Microseconds()) / 1000
}

// manyFiles makes a repository of n small files with one commit, quicker than git add would.
func manyFiles(b *testing.B, n int) user {
	b.Helper()
	u := newUser(b)
	var s strings.Builder
	fmt.Fprint(&s, "commit refs/heads/main\ncommitter U <u@example.org> 0 +0000\ndata 1\nc")
	for i := range n {
		text := strings.Repeat(fmt.Sprintf("line of file %d\n", i), 20)
		fmt.Fprintf(&s, "M 100644 inline d%d/e%d/file%d.txt\ndata %d\n%s\n", i%50, i/50%40, i, len(text), text)
	}
	cmd := exec.Command("git", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = u.root, strings.NewReader(s.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	u.git("checkout", "-q", "-f", "main")
	return u
}

// BenchmarkFileState compares what a job's files cost in a small and in a large repository, with what a checkout costs. All times are medians
// in milliseconds: snapshot is of the working tree with one file changed; state goes from the snapshot to what can be mounted, where the base is
// there: clean for the commit itself, known for a dirty snapshot that was used before, edited for one that was not.
func BenchmarkFileState(b *testing.B) {
	state := map[int]float64{}
	for _, n := range []int{1000, 13000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			u := manyFiles(b, n)
			r := u.open()
			base := b.TempDir()
			made := 0
			work := func(snap Snapshot) {
				made++
				w, err := r.NewWorkspace(b.Context(), WorkspaceSpec{Dir: filepath.Join(base, fmt.Sprint(made)), Form: Overlay, Snapshot: snap})
				must(b, err)
				if w.Overlay == "" {
					b.Fatal("no layers")
				}
			}
			first, err := r.Snapshot(b.Context(), "")
			must(b, err)
			begun := time.Now()
			work(first)
			firstBase := time.Since(begun)
			var snap Snapshot
			edit := func(i int) { u.write("d1/e0/file1.txt", fmt.Sprint("edit ", i, time.Now())) }
			snapshot := median(b, edit, func(int) {
				snap, err = r.Snapshot(b.Context(), "")
				must(b, err)
			})
			clean := median(b, nil, func(int) { work(first) })
			work(snap)
			known := median(b, nil, func(int) { work(snap) })
			edited := median(b, func(i int) {
				edit(i)
				snap, err = r.Snapshot(b.Context(), "")
				must(b, err)
			}, func(int) { work(snap) })
			trees := b.TempDir()
			worktree := median(b, nil, func(i int) { u.git("worktree", "add", "--detach", "-q", filepath.Join(trees, fmt.Sprint(i)), "HEAD") })
			os.RemoveAll(trees)
			state[n] = edited
			for b.Loop() { // the benchmark is what was done above
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(firstBase.Milliseconds()), "first-ms")
			b.ReportMetric(snapshot, "snapshot-ms")
			b.ReportMetric(clean, "clean-ms")
			b.ReportMetric(known, "known-ms")
			b.ReportMetric(edited, "edited-ms")
			b.ReportMetric(worktree, "worktree-add-ms")
			b.ReportMetric(edited/worktree, "edited/worktree-add")
			b.ReportMetric(edited/state[1000], "edited/1000-files")
			b.ReportMetric(known/worktree, "known/worktree-add")
		})
	}
}
