package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A log is these files; all integers are little-endian:
//
//	meta              which format this is, and the end once nothing is left to add
//	head.log          raw bytes: the first half of the limit
//	head.idx          records for head.log
//	tail-OFFSET.log   raw bytes from that offset on: 1/32 of the limit each, the
//	tail-OFFSET.idx   last 16 are kept
//
// A record describes bytes that are already in the .log file, so whatever is
// behind the last whole record, or described but not there, is a torn tail and
// no output. Each .log file is contiguous; gaps from a full disk are records
// too, and the hole between the head and the first tail is what the limit cost.
//
// meta has its full length from the start and is only overwritten in place, so
// that a log can be closed on a full disk.
const (
	metaName    = "meta"
	metaMagic   = "berthlog"
	metaVersion = 1
	metaIdent   = 32 // magic, version u32, 0 u32, limit u64, 0 u32, crc u32
	metaSize    = 64 // then: state u32, 0 u32, end u64, 0 [12]byte, crc u32

	stateOpen   = 1
	stateClosed = 2

	recordSize = 32 // end u64, pos u64, time u64, stream u8, 0 [3]byte, crc u32

	headName   = "head"
	tailPrefix = "tail-"
	tailFiles  = 16
	minLimit   = 4 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A record is one run of bytes of one stream, or a gap (stream 0). It starts
// where the record before it ends.
type record struct {
	end    int64 // cursor behind it
	pos    int64 // its end in the .log file; of the record before it, in a gap
	time   int64 // Unix nanoseconds; 0 in a gap
	stream Stream
}

func (rec record) append(b []byte) []byte {
	n := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(rec.end))
	b = binary.LittleEndian.AppendUint64(b, uint64(rec.pos))
	b = binary.LittleEndian.AppendUint64(b, uint64(rec.time))
	b = append(b, byte(rec.stream), 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[n:], castagnoli))
}

func decodeRecord(b []byte) (record, bool) {
	if len(b) < recordSize || crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
		return record{}, false
	}
	rec := record{
		end:    int64(binary.LittleEndian.Uint64(b)),
		pos:    int64(binary.LittleEndian.Uint64(b[8:])),
		time:   int64(binary.LittleEndian.Uint64(b[16:])),
		stream: Stream(b[24]),
	}
	return rec, rec.end > 0 && rec.pos >= 0 && rec.stream <= Stderr
}

func encodeIdent(limit int64) []byte {
	b := append(make([]byte, 0, metaIdent), metaMagic...)
	b = binary.LittleEndian.AppendUint32(b, metaVersion)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(limit))
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func encodeState(state uint32, end int64) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, metaSize-metaIdent), state)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(end))
	b = append(b, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readMeta checks that dir holds a log and returns what meta says of its end.
func readMeta(dir string) (Info, error) {
	b, err := os.ReadFile(filepath.Join(dir, metaName))
	if err != nil {
		return Info{}, err
	}
	if len(b) < metaIdent || string(b[:8]) != metaMagic ||
		crc32.Checksum(b[:metaIdent-4], castagnoli) != binary.LittleEndian.Uint32(b[metaIdent-4:]) {
		return Info{}, ErrFormat
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != metaVersion {
		return Info{}, fmt.Errorf("%w: version %d", ErrFormat, v)
	}
	if len(b) < metaSize {
		return Info{}, nil
	}
	b = b[metaIdent:metaSize]
	if crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
		return Info{}, nil // torn while it was written: not complete
	}
	return Info{
		Size:   int64(binary.LittleEndian.Uint64(b[8:])),
		Closed: binary.LittleEndian.Uint32(b) == stateClosed,
	}, nil
}

func tailName(base int64) string { return fmt.Sprintf("%s%020d", tailPrefix, base) }

// parseIndexName tells whether a file name is that of an index, and the offset
// at which its segment starts.
func parseIndexName(file string) (base int64, ok bool) {
	name, ok := strings.CutSuffix(file, ".idx")
	if !ok {
		return 0, false
	}
	if name == headName {
		return 0, true
	}
	digits, ok := strings.CutPrefix(name, tailPrefix)
	if !ok {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base > 0 && name == tailName(base)
}

func segmentName(base int64) string {
	if base == 0 {
		return headName
	}
	return tailName(base)
}

// A segment is one pair of .log and .idx files, open for reading.
type segment struct {
	log, idx *os.File
	base     int64 // cursor of its first byte
	end      int64 // cursor behind the last byte that is whole
	n        int64 // records, the last of them possibly cut short by end
}

// openSegment opens the segment that starts at base and finds where what is
// whole in it ends. The error is fs.ErrNotExist if it has been dropped. A .log
// file that is missing on its own is an empty one.
func openSegment(dir string, base int64) (_ *segment, err error) {
	s := &segment{base: base, end: base}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	name := filepath.Join(dir, segmentName(base))
	if s.idx, err = os.Open(name + ".idx"); err != nil {
		return nil, err
	}
	var have int64 // bytes in the .log file, looked at after the index and so never behind it
	s.log, err = os.Open(name + ".log")
	if err != nil {
		// The writer drops the index first: if that is still there, the .log
		// file was lost in another way.
		if _, gone := os.Stat(s.idx.Name()); gone != nil || !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	st, err := s.idx.Stat()
	if err != nil {
		return nil, err
	}
	s.n = st.Size() / recordSize
	if s.log != nil {
		if st, err = s.log.Stat(); err != nil {
			return nil, err
		}
		have = st.Size()
	}
	for s.n > 0 {
		last, err := s.record(s.n - 1)
		if errors.Is(err, errTorn) {
			s.n--
			continue
		}
		if err != nil {
			return nil, err
		}
		s.end = last.end
		if last.pos > have {
			return s, s.cut(have)
		}
		break
	}
	return s, nil
}

// cut leaves out what the records describe beyond have bytes of the .log file.
func (s *segment) cut(have int64) error {
	i, err := s.search(func(rec record) bool { return rec.pos > have })
	if err != nil {
		return err
	}
	rec, err := s.record(i)
	if err != nil {
		return err
	}
	s.n, s.end = i+1, rec.end-(rec.pos-have)
	return nil
}

var errTorn = errors.New("damaged index record")

// record reads record i; the one before the first is the segment's start.
func (s *segment) record(i int64) (record, error) {
	recs, err := s.records(i, 1)
	if err != nil {
		return record{}, err
	}
	return recs[0], nil
}

// records reads k records from i on; i may be -1.
func (s *segment) records(i, k int64) ([]record, error) {
	recs := make([]record, 0, k)
	if i < 0 {
		recs = append(recs, record{end: s.base})
		i, k = 0, k-1
	}
	b := make([]byte, k*recordSize)
	if _, err := s.idx.ReadAt(b, i*recordSize); err != nil && k > 0 {
		return nil, err
	}
	for ; len(b) > 0; b = b[recordSize:] {
		rec, ok := decodeRecord(b)
		if !ok {
			return nil, fmt.Errorf("read %s: %w", s.idx.Name(), errTorn)
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// search finds the first record for which after is true, which then holds for
// all that follow; s.n if there is none.
func (s *segment) search(after func(record) bool) (int64, error) {
	lo, hi := int64(0), s.n
	for lo < hi {
		mid := (lo + hi) / 2
		rec, err := s.record(mid)
		if err != nil {
			return 0, err
		}
		if after(rec) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, nil
}

func (s *segment) close() {
	if s.log != nil {
		s.log.Close()
	}
	if s.idx != nil {
		s.idx.Close()
	}
}

func (rec record) chunk(offset int64) Chunk {
	return Chunk{Offset: offset, Stream: rec.stream, Time: time.Unix(0, rec.time)}
}
