package wal

// Behind is about how many bytes on the disk the records behind a sequence take:
// a segment that holds others too counts by their share. What waits in memory is
// not in it.
func (l *Log) Behind(sequence uint64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, g := range l.segments {
		if g.last < g.from || g.last <= sequence {
			continue
		}
		all := g.last - g.from + 1
		behind := g.last - max(sequence, g.from-1)
		n += int64(float64(blocks(g.size)) * float64(behind) / float64(all))
	}
	return n
}
