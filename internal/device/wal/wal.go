// Package wal is an append-only log of numbered records in segment files: what
// Sync has confirmed survives a power cut, and what a power cut leaves
// half-written is told from what was damaged. It knows bytes only. README.md
// gives the format byte by byte and the crash argument for each operation.
package wal

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// ErrFull means that a record was not taken: too much waits to be written.
var ErrFull = errors.New("the journal's memory is full of records that could not be written")

// errNumbers: somebody wrote a segment that claims the highest number there is.
var errNumbers = errors.New("the journal has no number left")

// Options of a log. Zero values take the defaults.
type Options struct {
	Epoch        uint64             // of a log that is begun anew, from 1; one that exists keeps its own
	Known        Place              // a record that is known to have been durable; the next one comes behind it
	SegmentBytes int64              // a new segment is begun behind this size; default 256 KiB
	MaxBytes     int64              // Room keeps the log below it, and damaged segments that were kept aside below a quarter of it; default 16 MiB
	MaxPending   int64              // bytes of records that may wait in memory; default 1 MiB
	Each         func(Record) error // called by Open for every record, oldest first; may be nil. A payload is good until it returns
}

// Place is a record's place in a log.
type Place struct{ Epoch, Sequence uint64 }

// Log is an open log. It is safe for concurrent use.
type Log struct {
	fs  FS
	opt Options

	mu       sync.Mutex
	segments []*segment // oldest first; the last may be the active one
	active   File       // nil: the next write begins a segment
	number   uint64     // of the newest segment
	next     uint64     // sequence of the next record
	durable  uint64     // highest sequence that is on the disk for good
	pending  []Record   // behind durable, in order
	waiting  int64      // bytes of pending payloads
	written  int        // how many of pending stand in the active segment
	failing  error      // the last write or sync failed
	bytes    uint64     // written since Open
	kept     Kept
	aside    map[uint64]bool // numbers of segments that were kept aside
	loose    bool            // a name may have been removed since the folder was synced
}

// Open reads the log and is ready to append. Appending goes on in a segment of
// its own, so nothing that was written before is touched: damage stays where it
// is. Records that the log does not itself call durable were perhaps never
// synced; they are written again before anything else.
func Open(fs FS, o Options) (*Log, Scan, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 256 << 10
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 20
	}
	if o.MaxPending == 0 {
		o.MaxPending = 1 << 20
	}
	o.Epoch = max(o.Epoch, 1)
	s, err := scan(fs, o.Each)
	if err != nil {
		return nil, Scan{}, err
	}
	for _, name := range s.leftovers {
		_ = fs.Remove(name) // one that stays is in nobody's way
	}
	switch {
	case s.Epoch != 0:
		o.Epoch = s.Epoch
	case o.Known.Epoch != 0:
		s.taken = 0 // the new epoch is another one than that of what cannot be read
	}
	l := &Log{
		fs: fs, opt: o, segments: s.segments, number: s.number, next: s.taken + 1, durable: s.Last,
		kept: s.Kept, aside: s.aside, loose: true,
	}
	if len(s.tail) > 0 {
		l.durable, l.pending = s.tail[0].Sequence-1, s.tail
	}
	for _, r := range s.tail {
		l.waiting += int64(len(r.Payload))
	}
	if o.Known.Epoch == o.Epoch {
		l.next = max(l.next, o.Known.Sequence+1)
	}
	for _, g := range l.segments {
		g.last = min(g.last, l.durable)
	}
	return l, s, nil
}

// Epoch is the epoch of every segment.
func (l *Log) Epoch() uint64 { return l.opt.Epoch }

// Next is the sequence that the next record will have.
func (l *Log) Next() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.next }

// Durable is the highest sequence that Sync has confirmed.
func (l *Log) Durable() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.durable }

// Written is the number of bytes written since Open.
func (l *Log) Written() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.bytes }

// Size is the number of bytes that all segments take on the disk, without what
// is kept aside or not of this log.
func (l *Log) Size() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.size() }

// Kept is what of damaged segments is kept aside.
func (l *Log) Kept() Kept {
	l.mu.Lock()
	k := l.kept
	l.mu.Unlock()
	return k
}

// Waiting is the number of bytes of records that are not durable yet.
func (l *Log) Waiting() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.waiting }

// MaxPending is the number of bytes that may wait.
func (l *Log) MaxPending() int64 { return l.opt.MaxPending }

// Failing is why the last write failed, nil when it did not.
func (l *Log) Failing() error { l.mu.Lock(); defer l.mu.Unlock(); return l.failing }

// Append takes a record and returns its sequence. It is on the disk for good
// only after Sync; until then it is kept in memory as well, so that a disk that
// fails for a while loses nothing that fits into MaxPending.
func (l *Log) Append(payload []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(payload) > MaxPayload {
		return 0, fmt.Errorf("append record: %d bytes, want at most %d", len(payload), MaxPayload)
	}
	if l.waiting+int64(len(payload)) > l.opt.MaxPending {
		return 0, ErrFull
	}
	if l.next > maxNumber {
		return 0, errNumbers
	}
	seq := l.next
	l.next++
	l.pending = append(l.pending, Record{Sequence: seq, Kind: Full, Payload: append([]byte(nil), payload...)})
	l.waiting += int64(len(payload))
	if l.failing == nil {
		_ = l.write() // kept in failing; Sync tries again
	}
	return seq, nil
}

// Sync makes every appended record durable. After a failed fsync the kernel may
// have dropped what it could not write (fsync(2)), so the records are written
// again into a new segment.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) > 0 {
		if err := l.write(); err != nil {
			return err
		}
		if err := l.sync(); err != nil {
			return err
		}
	}
	return nil
}

// write puts pending records into the active segment, as far as it has room.
func (l *Log) write() error {
	for l.written < len(l.pending) {
		r := l.pending[l.written]
		if err := l.ready(r.Sequence); err != nil {
			return l.fail(err)
		}
		g := l.segments[len(l.segments)-1]
		b := appendRecord(nil, r, l.durable)
		if g.last+1 != r.Sequence || g.end > headerSize && g.end+int64(len(b)) > l.opt.SegmentBytes {
			if err := l.sync(); err != nil {
				return err
			}
			l.retire()
			continue
		}
		if _, err := l.active.WriteAt(b, g.end); err != nil {
			return l.fail(fmt.Errorf("write journal: %w", err))
		}
		l.bytes += uint64(len(b))
		g.end += int64(len(b))
		g.size = max(g.size, g.end)
		g.last, g.holds = r.Sequence, r.Sequence
		l.written++
	}
	return nil
}

// sync confirms what stands in the active segment.
func (l *Log) sync() error {
	if l.active == nil || l.written == 0 {
		return nil
	}
	if err := l.active.Sync(); err != nil {
		return l.fail(fmt.Errorf("sync journal: %w", err))
	}
	l.failing = nil
	for _, r := range l.pending[:l.written] {
		l.durable = r.Sequence
		l.waiting -= int64(len(r.Payload))
	}
	l.pending = append([]Record(nil), l.pending[l.written:]...)
	l.written = 0
	return nil
}

// ready begins a segment with a record where there is no active one: header, fsync, fsync of
// the folder, so that the name is there before a record counts as durable.
func (l *Log) ready(first uint64) error {
	if l.active != nil {
		return nil
	}
	number := l.number + 1
	if number > maxNumber {
		return errNumbers
	}
	name := segmentName(number)
	f, err := l.fs.Open(name, true)
	if err != nil {
		if errors.Is(err, os.ErrExist) { // left by a failed attempt
			l.number = number
		}
		return fmt.Errorf("begin journal segment: %w", err)
	}
	l.number = number
	h := header{epoch: l.opt.Epoch, first: first}.encode()
	_, err = f.WriteAt(h, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.syncNames()
	}
	g := &segment{number: number, first: first, from: first, last: first - 1, end: headerSize, size: headerSize}
	if err != nil {
		_ = f.Close()
		if !l.remove(name) {
			l.segments = append(l.segments, g)
		}
		return fmt.Errorf("begin journal segment: %w", err)
	}
	l.active = f
	l.bytes += uint64(len(h))
	l.segments = append(l.segments, g)
	return nil
}

// fail gives the active segment up: what is pending will be written anew.
func (l *Log) fail(err error) error {
	l.failing = err
	if l.active == nil {
		return err
	}
	g := l.segments[len(l.segments)-1]
	l.retire()
	l.written = 0
	g.holds = g.last
	if g.last = min(g.last, l.durable); g.empty() && l.remove(segmentName(g.number)) {
		l.segments = l.segments[:len(l.segments)-1]
	}
	return err
}

// remove removes a segment that never held a durable record.
func (l *Log) remove(name string) bool {
	l.loose = true
	return l.fs.Remove(name) == nil
}

func (l *Log) syncNames() error {
	if err := l.fs.Sync(); err != nil {
		return err
	}
	l.loose = false
	return nil
}

func (l *Log) retire() {
	if l.active != nil {
		_ = l.active.Close()
		l.active = nil
	}
}

func (l *Log) size() int64 {
	var n int64
	for _, g := range l.segments {
		if !g.foreign {
			n += blocks(g.size)
		}
	}
	return n
}

// Close syncs and closes the log.
func (l *Log) Close() error {
	err := l.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retire()
	return err
}
