package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// maxSegment bounds a segment that is read: several times what is written.
const maxSegment = 4 << 20

// readSegment reads a segment into buf, which grows as needed. On an error it
// returns what could be read.
func readSegment(fs FS, name string, buf []byte) ([]byte, error) {
	f, err := fs.Open(name, false)
	if err != nil {
		return buf[:0], fmt.Errorf("open journal segment: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return buf[:0], fmt.Errorf("read journal segment %s: %w", name, err)
	}
	if size > maxSegment {
		size = maxSegment
	}
	buf = slices.Grow(buf[:0], int(size))[:size]
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return buf[:n], fmt.Errorf("read journal segment %s: offset %d: %w", name, n, err)
	}
	return buf[:n], nil
}

// sizeOf is a file's length, 0 where it cannot be told.
func sizeOf(fs FS, name string) int64 {
	f, err := fs.Open(name, false)
	if err != nil {
		return 0
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		return 0
	}
	return n
}

// scanned is what one segment tells by itself.
type scanned struct {
	*segment
	name     string
	readable bool // its header
	epoch    uint64
	sums     []uint32 // of each record, from first on
	durable  uint64   // the highest that its records state; behind lookAhead also those of later segments
	highest  uint64   // sequence, also of records behind bad
	bad      *Damage  // where reading stopped
	behind   bool     // bytes behind bad tell that this was once whole
	failed   bool     // what it holds cannot be told: the disk failed, or another program wrote it
	alone    bool     // it is neither counted nor touched

	next   uint64 // first of the next readable segment; 0: there is none
	newest bool   // none is behind it
}

// parseSegment reads one segment's records up to the first that is bad, and
// behind it looks for later ones, since those tell whether the bad one had been
// durable.
func parseSegment(name string, b []byte) scanned {
	number, _ := parseSegmentName(name)
	out := scanned{name: name, segment: &segment{number: number, from: 1, size: int64(len(b))}}
	h, err := parseHeader(b)
	if errors.Is(err, errVersion) && len(b) > headerSize { // else a header that was cut short
		out.bad, out.behind, out.failed, out.alone = &Damage{Segment: name, Reason: err.Error()}, true, true, true
		return out
	}
	if err != nil {
		out.bad, out.behind = &Damage{Segment: name, Reason: err.Error()}, len(b) > headerSize
		out.lookBehind(b, 0)
		return out
	}
	out.readable, out.epoch = true, h.epoch
	out.first, out.last, out.end = h.first, h.first-1, headerSize
	out.durable = h.first - 1 // a segment is begun with the first record that is not durable
	off := headerSize
	for off < len(b) {
		r, durable, size, err := parseRecord(b[off:])
		if err == nil && r.Sequence != out.last+1 {
			err = fmt.Errorf("record %d after %d", r.Sequence, out.last)
		}
		if err != nil {
			out.bad = &Damage{Segment: name, Offset: int64(off), Reason: err.Error()}
			out.lookBehind(b[off:], out.last)
			break
		}
		out.last, out.durable = r.Sequence, max(out.durable, durable)
		out.sums = append(out.sums, r.sum())
		off += size
		out.end = int64(off)
	}
	out.holds, out.highest = out.last, max(out.highest, out.last)
	return out
}

// unreadable is a segment that the disk, or its owner, does not give whole: b is
// what could be read.
func unreadable(name string, b []byte, err error) scanned {
	out := parseSegment(name, b)
	out.bad = &Damage{Segment: name, Offset: out.end, Reason: err.Error()}
	out.behind, out.alone = true, !out.readable
	out.failed = !errors.Is(err, errNotPlain)
	return out
}

// searchFactor bounds the search behind a bad record: so many times the bytes
// there are put through the checksum, however they were made.
const searchFactor = 16

// lookBehind searches the bytes behind a bad record for records that fit their
// checksum and takes what they say was durable.
func (g *scanned) lookBehind(b []byte, last uint64) {
	budget := searchFactor * len(b)
	for i := 1; i+recordHeaderSize <= len(b) && budget > 0; i++ {
		if !looksLikeRecord(b[i:], last) {
			continue
		}
		r, durable, size, err := parseRecord(b[i:])
		if budget -= size; err != nil || r.Sequence <= last {
			continue
		}
		g.behind, g.durable, g.highest = true, max(g.durable, durable), max(g.highest, r.Sequence)
		i += size - 1
	}
}
