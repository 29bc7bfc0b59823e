package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
)

// TailLines gives the cursor where the last n lines start, of stream s alone
// unless s is 0. An unfinished last line counts as one. It costs O(bytes of
// those lines).
func (r *Reader) TailLines(n int, s Stream) (int64, error) {
	v, err := r.view()
	if err != nil || n <= 0 {
		return v.Size, err
	}
	t := tailSearch{lines: n, stream: s, cursor: v.Size}
	for i := len(v.bases) - 1; i >= 0 && !t.found; i-- {
		err := t.segment(r.dir, v.bases[i], v.Size)
		if errors.Is(err, fs.ErrNotExist) {
			break // dropped since, and so were those before it
		}
		if err != nil {
			return 0, fmt.Errorf("read log %s: %w", r.dir, err)
		}
	}
	return t.cursor, nil
}

// A tailSearch looks for the start of a line, going backwards.
type tailSearch struct {
	lines  int // still to be found
	stream Stream
	any    bool  // a byte has been seen, so a newline now ends a line before
	cursor int64 // start of what has been looked at
	found  bool
	buf    []byte
}

// segment goes through the segment at base, without what is past size.
func (t *tailSearch) segment(dir string, base, size int64) error {
	seg, err := openSegment(dir, base)
	if err != nil {
		return err
	}
	defer seg.close()
	for hi := seg.n; hi > 0 && !t.found; {
		lo := max(0, hi-recordBatch)
		recs, err := seg.records(lo-1, hi-lo+1)
		if err != nil {
			return err
		}
		for k := len(recs) - 1; k > 0 && !t.found; k-- {
			start, end := recs[k-1].end, min(recs[k].end, seg.end, size)
			if recs[k].stream == 0 || t.stream != 0 && recs[k].stream != t.stream || start >= end {
				continue
			}
			if err := t.run(seg, recs[k], start, end); err != nil {
				return err
			}
		}
		hi = lo
	}
	return nil
}

func (t *tailSearch) run(seg *segment, rec record, start, end int64) error {
	if t.buf == nil {
		t.buf = make([]byte, 16<<10)
	}
	for end > start {
		b := t.buf[:min(end-start, int64(len(t.buf)))]
		from := end - int64(len(b))
		if _, err := seg.log.ReadAt(b, rec.pos-(rec.end-from)); err != nil {
			return err
		}
		if !t.any {
			t.any = true
			b = bytes.TrimSuffix(b, []byte("\n")) // it ends the last line, and none before
		}
		for {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if t.lines--; t.lines == 0 {
				t.cursor, t.found = from+int64(i)+1, true
				return nil
			}
			b = b[:i]
		}
		t.cursor, end = from, from
	}
	return nil
}
