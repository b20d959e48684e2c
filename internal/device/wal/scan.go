package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxSegment bounds a segment that is read: several times what is written.
const maxSegment = 4 << 20

// Damage is a place where the log does not hold what was written.
type Damage struct {
	Segment string
	Offset  int64
	Reason  string
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: offset %d: %s", d.Segment, d.Offset, d.Reason)
}

// segment is one file of the log. Of its records those between from and last
// count; where last is before from, none does.
type segment struct {
	number     uint64
	first      uint64 // as the header says
	from, last uint64
	holds      uint64 // highest sequence in the file
	end        int64  // bytes up to which records can be read, the header included
	size       int64  // bytes of the file
}

// Scan is what reading a whole log gave.
type Scan struct {
	Epoch   uint64   // 0 when there is no segment
	First   uint64   // sequence of the oldest record, 0 when there is none
	Last    uint64   // of the newest
	Durable uint64   // what the log itself says was durable
	Damage  []Damage // places that were durable and are not what was written
	Torn    *Damage  // an unfinished end, as a power cut leaves it

	segments  []*segment
	number    uint64   // of the newest segment
	tail      []Record // behind Durable
	sums      []uint32 // of the records that count, from First on
	leftovers []string
}

// Inspect reads a log without changing it, and calls each, which may be nil,
// for every record in order. A record's payload is good until each returns.
func Inspect(fs FS, each func(Record) error) (Scan, error) { return scan(fs, each) }

// scan reads every segment twice, one at a time: first to learn which records
// count, then to hand them out. A record that stands in two segments, since it
// was written again, is the same in both; the earlier one counts.
func scan(fs FS, each func(Record) error) (Scan, error) {
	var s Scan
	names, err := s.list(fs)
	if err != nil {
		return Scan{}, err
	}
	var buf []byte
	all := make([]scanned, 0, len(names))
	for _, name := range names {
		if buf, err = readSegment(fs, name, buf); err != nil {
			return Scan{}, err
		}
		all = append(all, parseSegment(name, buf))
	}
	s.settleEpoch(all)
	for i := range all {
		s.join(all, i)
	}
	return s, s.handOut(fs, buf, each)
}

// list names the segments, oldest first, and keeps what a power cut left of
// rewriting one.
func (s *Scan) list(fs FS) ([]string, error) {
	names, err := fs.List()
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	slices.Sort(names)
	var segments []string
	for _, name := range names {
		whole := strings.TrimSuffix(name, temporary)
		number, ok := parseSegmentName(whole)
		switch {
		case !ok:
		case whole != name:
			s.leftovers = append(s.leftovers, name)
		default:
			s.number = number
			segments = append(segments, name)
		}
	}
	return segments, nil
}

// handOut reads the segments once more and calls each for what counts; what is
// not known to be durable is kept as the log's tail.
func (s *Scan) handOut(fs FS, buf []byte, each func(Record) error) error {
	for _, g := range s.segments {
		if g.last < g.from || each == nil && g.last <= s.Durable {
			continue
		}
		var err error
		name := segmentName(g.number)
		if buf, err = readSegment(fs, name, buf); err != nil {
			return err
		}
		err = records(name, buf, g, func(r Record) error {
			if r.Sequence > s.Durable {
				s.tail = append(s.tail, r.clone())
			}
			if each == nil {
				return nil
			}
			return each(r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// records calls each for the records of a segment that count.
func records(name string, b []byte, g *segment, each func(Record) error) error {
	for off := int64(headerSize); off < min(g.end, int64(len(b))); {
		r, _, size, err := parseRecord(b[off:])
		if err != nil {
			return fmt.Errorf("read journal: %s: offset %d: %w", name, off, err)
		}
		if off += int64(size); r.Sequence > g.last {
			return nil
		}
		if r.Sequence < g.from {
			continue
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// readSegment reads a segment into buf, which grows as needed.
func readSegment(fs FS, name string, buf []byte) ([]byte, error) {
	f, err := fs.Open(name, false)
	if err != nil {
		return nil, fmt.Errorf("open journal segment: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("read journal segment %s: %w", name, err)
	}
	if size > maxSegment {
		size = maxSegment
	}
	buf = slices.Grow(buf[:0], int(size))[:size]
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read journal segment %s: offset %d: %w", name, n, err)
	}
	return buf[:n], nil
}

// scanned is what one segment tells by itself.
type scanned struct {
	*segment // nil: the header cannot be read
	name     string
	epoch    uint64
	sums     []uint32 // of each record, from first on
	durable  uint64   // the highest that its records state
	bad      *Damage  // where reading stopped
	behind   bool     // bytes behind bad tell that this was once whole
}

// parseSegment reads one segment's records up to the first that is bad, and
// behind it looks for later ones, since those tell whether the bad one had been
// durable.
func parseSegment(name string, b []byte) scanned {
	out := scanned{name: name}
	h, err := parseHeader(b)
	if err != nil {
		out.bad, out.behind = &Damage{Segment: name, Reason: err.Error()}, len(b) > headerSize
		out.lookBehind(b, 0)
		return out
	}
	number, _ := parseSegmentName(name)
	out.epoch = h.epoch
	out.segment = &segment{number: number, first: h.first, last: h.first - 1, end: headerSize, size: int64(len(b))}
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
	out.holds = out.last
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
		g.behind, g.durable = true, max(g.durable, durable)
		i += size - 1
	}
}

// settleEpoch takes the newest segment's epoch; a segment of another one does
// not belong here, and its records do not count.
func (s *Scan) settleEpoch(all []scanned) {
	for i := len(all) - 1; i >= 0; i-- {
		g := &all[i]
		switch {
		case g.segment == nil:
		case s.Epoch == 0:
			s.Epoch = g.epoch
		case g.epoch != s.Epoch:
			g.bad = &Damage{Segment: g.name, Reason: fmt.Sprintf("a segment of epoch %d in a journal of epoch %d", g.epoch, s.Epoch)}
			g.segment, g.durable, g.behind = nil, 0, true
		}
	}
}

// join takes segment i behind those before it, with the later ones known. A bad
// place is damage when something says that more was durable, and else the
// unfinished end of a power cut.
func (s *Scan) join(all []scanned, i int) {
	g := &all[i]
	durable, next := g.durable, uint64(0)
	for _, later := range all[i+1:] {
		durable = max(durable, later.durable)
		if later.segment != nil && next == 0 {
			next = later.first
		}
	}
	if g.segment == nil {
		s.joinHeaderless(g, next)
		return
	}
	s.Durable = max(s.Durable, durable)
	s.segments = append(s.segments, g.segment)
	g.from = max(g.first, s.Last+1)
	s.compare(g)
	if g.last >= g.from {
		if s.First == 0 {
			s.First = g.from
		}
		s.sums = append(append(s.sums, make([]uint32, g.from-s.First-uint64(len(s.sums)))...), g.sums[g.from-g.first:]...)
		s.Last = g.last
	}
	here := s.Last
	if g.bad != nil {
		here = max(here, g.first-1) // its header tells what came before
	}
	missing := next > here+1 && (here > 0 || g.bad != nil)
	switch {
	case g.bad != nil && here < durable && (next == 0 || missing):
		s.Damage = append(s.Damage, *g.bad)
	case g.bad != nil && i == len(all)-1:
		s.Torn = g.bad
	case missing:
		s.Damage = append(s.Damage, Damage{Segment: g.name, Offset: g.end, Reason: fmt.Sprintf("records %d to %d are missing behind it", here+1, next-1)})
	}
}

// compare reports records that stand in an earlier segment too and are not the
// same there: the segments are of two histories.
func (s *Scan) compare(g *scanned) {
	for n := max(g.first, s.First); n <= min(g.last, s.Last); n++ {
		mine, theirs := g.sums[n-g.first], s.sums[n-s.First]
		if mine != 0 && theirs != 0 && mine != theirs {
			s.Damage = append(s.Damage, Damage{Segment: g.name, Offset: headerSize, Reason: fmt.Sprintf("record %d is another one than in the segments before", n)})
			return
		}
	}
}

// joinHeaderless decides about a segment whose header cannot be read. No byte
// is written behind a header before it is synced, so one with more than a
// header's length is damaged, and one without was begun and never used.
func (s *Scan) joinHeaderless(g *scanned, next uint64) {
	switch {
	case g.behind:
		s.Damage = append(s.Damage, *g.bad)
	case next == 0:
		s.Torn = g.bad
	}
}
