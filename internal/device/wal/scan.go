package wal

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

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
	damaged    bool   // it is kept aside when its turn to go comes
	foreign    bool   // and its header is not this log's
}

func (g *segment) empty() bool { return g.last < g.from }

// Kept tells of damaged segments that were kept aside instead of being recycled.
type Kept struct {
	Files int
	Bytes int64 // that they take on the disk
	Gone  int   // damaged segments that went, since Open, because the room for keeping them was used up
}

// Scan is what reading a whole log gave.
type Scan struct {
	Epoch   uint64   // 0 when there is no segment
	First   uint64   // sequence of the oldest record, 0 when there is none
	Last    uint64   // of the newest
	Durable uint64   // what the log itself says was durable
	Damage  []Damage // places that were durable and are not what was written
	Torn    *Damage  // an unfinished end, as a power cut leaves it
	Kept    Kept     // damaged segments that were kept aside; they are not read

	segments  []*segment
	number    uint64          // the highest that a name has
	taken     uint64          // the highest sequence that may have been given to a record
	begin     uint64          // where the segment before begins
	tail      []Record        // behind Durable
	runs      []run           // of the records that count, oldest first
	leftovers []string        // of rewriting
	aside     map[uint64]bool // numbers of segments that were kept aside
}

// run is the sums of the records that count in one segment.
type run struct {
	from uint64
	sums []uint32
}

func (r run) end() uint64 { return r.from + uint64(len(r.sums)) }

// Inspect reads a log without changing it, and calls each, which may be nil,
// for every record in order. A record's payload is good until each returns.
func Inspect(fs FS, each func(Record) error) (Scan, error) { return scan(fs, each) }

// scan reads every segment twice, one at a time: first to learn which records
// count, then to hand them out. A record that stands in two segments, since it
// was written again, is the same in both; the earlier one counts. A segment that
// cannot be read is damage; an error means that none could be read at all.
func scan(fs FS, each func(Record) error) (Scan, error) {
	var s Scan
	names, err := s.list(fs)
	if err != nil {
		return Scan{}, err
	}
	var buf []byte
	var failure error
	read := 0
	all := make([]scanned, 0, len(names))
	for _, name := range names {
		buf, err = readSegment(fs, name, buf)
		switch {
		case errors.Is(err, os.ErrNotExist): // recycled since the names were listed
		case err == nil:
			all = append(all, parseSegment(name, buf))
			read++
		default:
			all = append(all, unreadable(name, buf, err))
			if !errors.Is(err, errNotPlain) {
				failure = err
			}
		}
	}
	if failure != nil && read == 0 {
		return Scan{}, failure
	}
	s.settleEpoch(all)
	lookAhead(all)
	for i := range all {
		s.join(&all[i])
	}
	s.taken = max(s.taken, s.Last, s.Durable)
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
	s.aside = make(map[uint64]bool)
	var segments []string
	for _, name := range names {
		whole := name[:min(len(name), nameLength)]
		number, ok := parseSegmentName(whole)
		if !ok {
			continue
		}
		if number > maxNumber {
			s.Damage = append(s.Damage, Damage{Segment: name, Reason: "no segment has a number as high as this"})
			continue
		}
		switch name[len(whole):] {
		case "":
			s.number = max(s.number, number)
			segments = append(segments, name)
		case temporary:
			s.leftovers = append(s.leftovers, name)
		case aside:
			s.number = max(s.number, number)
			s.aside[number] = true
			s.Kept.Files++
			s.Kept.Bytes += blocks(sizeOf(fs, name))
		}
	}
	return segments, nil
}

// handOut reads the segments once more and calls each for what counts; what is
// not known to be durable is kept as the log's tail.
func (s *Scan) handOut(fs FS, buf []byte, each func(Record) error) error {
	for _, g := range s.segments {
		if g.empty() || each == nil && g.last <= s.Durable {
			continue
		}
		var err error
		name := segmentName(g.number)
		if buf, err = readSegment(fs, name, buf); err != nil && int64(len(buf)) < g.end {
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

// settleEpoch takes the newest segment's epoch; a segment of another one does
// not belong here, and its records do not count.
func (s *Scan) settleEpoch(all []scanned) {
	for i := len(all) - 1; i >= 0; i-- {
		g := &all[i]
		switch {
		case !g.readable:
		case s.Epoch == 0:
			s.Epoch = g.epoch
		case g.epoch != s.Epoch:
			g.bad = &Damage{Segment: g.name, Reason: fmt.Sprintf("a segment of epoch %d in a journal of epoch %d", g.epoch, s.Epoch)}
			g.segment, g.readable = &segment{number: g.number, from: 1, size: g.size}, false
			g.durable, g.highest, g.behind = 0, 0, true
		}
	}
}

// lookAhead tells each segment what it and the later ones know.
func lookAhead(all []scanned) {
	durable, next, newest := uint64(0), uint64(0), true
	for i := len(all) - 1; i >= 0; i-- {
		g := &all[i]
		durable = max(durable, g.durable)
		g.durable, g.next, g.newest = durable, next, newest
		newest = newest && g.alone
		if g.readable {
			next = g.first
		}
	}
}

// join takes a segment behind those before it. A bad place is damage when
// something says that more was durable, and else the unfinished end of a power
// cut.
func (s *Scan) join(g *scanned) {
	if !g.alone {
		s.segments = append(s.segments, g.segment)
	}
	if !g.readable {
		s.joinUnreadable(g)
		return
	}
	s.Durable = max(s.Durable, g.durable)
	g.from = max(g.first, s.Last+1)
	s.compare(g)
	if g.first < s.begin {
		s.Damage, g.damaged = append(s.Damage, Damage{Segment: g.name, Reason: "it begins before the segment in front of it"}), true
	}
	s.begin = max(s.begin, g.first)
	if !g.empty() {
		if s.First == 0 {
			s.First = g.from
		}
		s.runs = append(s.runs, run{g.from, g.sums[g.from-g.first:]})
		s.Last = g.last
	}
	here := max(s.Last, g.first-1) // the header tells what came before
	s.taken = max(s.taken, here)
	missing := g.next > here+1
	switch {
	case g.bad != nil && (g.failed || here < g.durable && (g.next == 0 || missing)):
		s.Damage, g.damaged = append(s.Damage, *g.bad), true
		s.take(g, here)
	case g.bad != nil && g.newest:
		s.Torn = g.bad
	case missing:
		s.Damage = append(s.Damage, Damage{Segment: g.name, Offset: g.end, Reason: fmt.Sprintf("records %d to %d are missing behind it", here+1, g.next-1)})
	}
}

// compare reports records that stand in an earlier segment too and are not the
// same there: the segments are of two histories.
func (s *Scan) compare(g *scanned) {
	at := len(s.runs)
	for at > 0 && s.runs[at-1].end() > g.first {
		at--
	}
	for _, r := range s.runs[at:] {
		for n := max(g.first, r.from); n < min(g.last+1, r.end()); n++ {
			mine, theirs := g.sums[n-g.first], r.sums[n-r.from]
			if mine != 0 && theirs != 0 && mine != theirs {
				s.Damage = append(s.Damage, Damage{Segment: g.name, Offset: headerSize, Reason: fmt.Sprintf("record %d is another one than in the segments before", n)})
				g.damaged = true
				return
			}
		}
	}
}

// joinUnreadable decides about a segment none of whose records can count. No
// byte is written behind a header before it is synced, so one with more than a
// header's length is damaged, and one without was begun and never used.
func (s *Scan) joinUnreadable(g *scanned) {
	switch {
	case g.behind:
		s.Damage, g.damaged, g.foreign = append(s.Damage, *g.bad), true, true
		s.take(g, s.Last)
	case g.newest:
		s.Torn = g.bad
	}
}

// take passes over the sequences that a damaged segment at the end may have
// held, so that no number is given twice.
func (s *Scan) take(g *scanned, here uint64) {
	if g.next != 0 {
		return // the segments behind it tell
	}
	s.taken = max(s.taken, g.highest)
	if g.failed && s.Epoch != 0 {
		s.taken = max(s.taken, here+maxSegment/recordHeaderSize)
	}
}
