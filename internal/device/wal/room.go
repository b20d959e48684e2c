package wal

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Shed says how a record that must go is treated.
type Shed struct {
	Hash   func(payload []byte) [stubSize]byte // what is left of it
	Worth  func(payload []byte) int            // from 1; the least worth goes first
	Levels int                                 // the highest worth
}

// block is what a file system takes at least for a file, in bytes: files are
// counted in such steps, so that many small segments are bounded too.
const block = 4 << 10

// Room brings the log below MaxBytes. Segments whose records are all
// acknowledged go first. If that is not enough, unacknowledged records lose
// their payload and leave their hash, the oldest of the least worth first. The
// segment that is being written is never touched. It returns how many records
// lost their payload; where the log is still too large after that, DropOldest
// is left. On a full disk one acknowledged segment goes whatever the size.
func (l *Log) Room(acknowledged uint64, shed Shed) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := errors.Is(l.failing, syscall.ENOSPC)
	for (full || l.size() > l.opt.MaxBytes) && len(l.spare()) > 0 && l.segments[0].last <= acknowledged && l.segments[0].holds <= l.durable {
		freed, err := l.drop()
		if err != nil {
			return 0, err
		}
		full = full && !freed
	}
	count := 0
	for level := 1; level <= shed.Levels; level++ {
		for _, g := range l.closed() {
			if l.size() <= l.opt.MaxBytes {
				return count, nil
			}
			n, err := l.stub(g, level, shed)
			count += n
			if err != nil {
				return count, err
			}
		}
	}
	return count, nil
}

// Oldest returns the sequences of the first and the last record in the oldest
// segment that DropOldest would take, and whether the log is too large and
// there is one.
func (l *Log) Oldest() (first, last uint64, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size() <= l.opt.MaxBytes {
		return 0, 0, false
	}
	for _, g := range l.spare() {
		if g.holds > l.durable {
			break
		}
		if !g.empty() {
			return g.from, g.last, true
		}
	}
	return 0, 0, false
}

// DropOldest removes the oldest segment that has records, hashes and all, or
// keeps it aside if it is damaged.
func (l *Log) DropOldest() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.spare()) > 0 && l.segments[0].holds <= l.durable {
		g := l.segments[0]
		if _, err := l.drop(); err != nil || !g.empty() {
			return err
		}
	}
	return nil
}

// closed are the segments that are not being written.
func (l *Log) closed() []*segment {
	if l.active == nil {
		return l.segments
	}
	return l.segments[:len(l.segments)-1]
}

// spare are the segments that may go: all before the one that is being written
// or, where there is none, before the last that has a record, since the log
// knows its epoch and its next sequence by it.
func (l *Log) spare() []*segment {
	if l.active != nil {
		return l.closed()
	}
	for i := len(l.segments) - 1; i > 0; i-- {
		if !l.segments[i].empty() {
			return l.segments[:i]
		}
	}
	return nil
}

// keptShare of MaxBytes is what damaged segments that are kept aside may take on
// top of it.
const keptShare = 4

// drop lets the oldest segment go and says whether the disk has more room now. A
// damaged one is kept aside, as long as there is room for that. Of names at most
// one is removed before the folder is synced: a power cut may bring back any of
// them, and one without its neighbour would look like a gap.
func (l *Log) drop() (freed bool, err error) {
	g := l.segments[0]
	name, bytes := segmentName(g.number), blocks(g.size)
	if l.loose {
		if err := l.syncNames(); err != nil {
			return false, fmt.Errorf("recycle journal segment: %w", err)
		}
	}
	switch {
	case g.damaged && !l.aside[g.number] && l.kept.Bytes+bytes <= l.opt.MaxBytes/keptShare:
		err = l.fs.Rename(name, name+aside)
		if err == nil {
			l.aside[g.number] = true
			l.kept.Files++
			l.kept.Bytes += bytes
		}
	case g.foreign: // it stays where it is
	default:
		err = l.fs.Remove(name)
		freed = true
		if g.damaged {
			l.kept.Gone++
		}
	}
	l.loose = true
	if err != nil && !errors.Is(err, os.ErrNotExist) { // else somebody else removed it
		return false, fmt.Errorf("recycle journal segment: %w", err)
	}
	l.segments = l.segments[1:]
	return freed, nil
}

// stub rewrites a segment with hashes in place of the payloads up to a worth:
// into a temporary file, fsync, rename over the old one, fsync of the folder.
// Where no block would be won, nothing is taken; nor of a damaged segment, which
// is kept as it is.
func (l *Log) stub(g *segment, level int, shed Shed) (int, error) {
	if g.damaged {
		return 0, nil
	}
	name := segmentName(g.number)
	b, err := readSegment(l.fs, name, nil)
	if err != nil {
		return 0, err
	}
	if len(b) < headerSize {
		return 0, nil
	}
	out, count := append([]byte(nil), b[:headerSize]...), 0
	for off := int64(headerSize); off < min(g.end, int64(len(b))); {
		r, durable, size, err := parseRecord(b[off:])
		if err != nil {
			return 0, fmt.Errorf("shed journal records: %s: offset %d: %w", name, off, err)
		}
		off += int64(size)
		if r.Kind == Full && r.Sequence <= g.last && len(r.Payload) > stubSize && shed.Worth(r.Payload) <= level {
			hash := shed.Hash(r.Payload)
			r = Record{Sequence: r.Sequence, Kind: Stub, Payload: hash[:]}
			count++
		}
		out = appendRecord(out, r, durable)
	}
	if blocks(int64(len(out))) >= blocks(g.size) {
		return 0, nil
	}
	if err := l.replace(name, out); err != nil {
		return 0, fmt.Errorf("shed journal records: %w", err)
	}
	l.bytes += uint64(len(out))
	g.end, g.size = int64(len(out)), int64(len(out))
	if err := l.syncNames(); err != nil {
		return count, fmt.Errorf("shed journal records: %w", err)
	}
	return count, nil
}

// replace puts a file with new content in the place of another one.
func (l *Log) replace(name string, content []byte) error {
	f, err := l.fs.Open(name+temporary, true)
	if errors.Is(err, os.ErrExist) { // a leftover that Open could not remove
		if err = l.fs.Remove(name + temporary); err == nil {
			f, err = l.fs.Open(name+temporary, true)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = l.fs.Rename(name+temporary, name)
	}
	if err != nil {
		_ = l.fs.Remove(name + temporary)
	}
	return err
}

// blocks is what a file of n bytes takes on the disk, in bytes.
func blocks(n int64) int64 { return (n + block - 1) / block * block }
