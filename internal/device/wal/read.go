package wal

import (
	"bytes"
	"errors"
	"fmt"
)

func (r Record) clone() Record { r.Payload = bytes.Clone(r.Payload); return r }

// errStop ends a pass over a segment.
var errStop = errors.New("enough")

// Read returns up to limit records behind a sequence, oldest first: those that
// are durable, and while the disk fails those that wait in memory as well.
// Records that were recycled or damaged are passed over: compare the sequences.
func (l *Log) Read(after uint64, limit int) ([]Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Record
	var buf []byte
	for _, g := range l.segments {
		if g.empty() || g.last <= after || g.from > l.durable {
			continue
		}
		if len(out) >= limit {
			break
		}
		var err error
		name := segmentName(g.number)
		if buf, err = readSegment(l.fs, name, buf); err != nil && int64(len(buf)) < g.end {
			return out, err
		}
		err = records(name, buf, g, func(r Record) error {
			switch {
			case r.Sequence > l.durable || len(out) >= limit:
				return errStop
			case r.Sequence > after:
				out = append(out, r.clone())
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			return out, err
		}
	}
	if l.failing == nil {
		return out, nil
	}
	for _, r := range l.pending {
		if len(out) >= limit {
			break
		}
		if r.Sequence > after {
			out = append(out, r)
		}
	}
	return out, nil
}

// Newest is the highest sequence that Read gives at this moment.
func (l *Log) Newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != nil {
		return l.next - 1
	}
	return l.durable
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
