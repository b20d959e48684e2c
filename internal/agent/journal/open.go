package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"ward/internal/agent/journal/audit"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Open opens the journal or begins one, and records what it found: a new begin,
// an unfinished end, damage. A folder that cannot be written gives an error: what
// would be recorded would have the places of records to come. A disk that is full
// does not, where there is a journal: it goes on in memory and frees what is
// confirmed.
func Open(c Config) (*Journal, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	ownDir := c.FS == nil
	if ownDir {
		c.FS = wal.Dir(c.Dir)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultBytes
	}
	j := &Journal{c: c, changed: make(chan struct{}), watch: newWatch()}
	if c.Note == nil {
		j.c.Note = j.Record
	}
	known, err := j.loadState()
	if err != nil {
		return nil, err
	}
	var lost []event.Event
	if ownDir {
		if lost, err = j.putAside(); err != nil {
			return nil, err
		}
	}
	scan, found, err := j.openLog(known)
	if err != nil {
		return nil, err
	}
	err = j.begin(scan, append(lost, found...))
	full := errors.Is(err, syscall.ENOSPC) && scan.Epoch != 0 && j.state.Again == nil
	switch {
	case err == nil:
	case ownDir && !full:
		return nil, errors.Join(err, j.log.Close())
	default:
		c.Log.Debug("write journal", "error", err) // Run raises the condition
	}
	j.told = j.log.Newest()
	return j, nil
}

// begin writes what there is to tell, which also shows that the disk can be
// written. What the last run may have left without a sync is written again now,
// so that it can be read.
func (j *Journal) begin(scan wal.Scan, found []event.Event) error {
	if scan.Epoch == 0 && !event.Volatile(j.log.Epoch()) {
		_ = j.append(incident(finding.JournalReset, fmt.Sprintf("epoch %d: %s", j.log.Epoch(), j.why)))
	}
	err := j.log.Sync()
	if err == nil {
		err = j.resume(scan)
	}
	for _, e := range found {
		if err := j.Record(context.Background(), e); err != nil {
			j.c.Log.Error("record the journal's state", "error", err)
		}
	}
	if err == nil {
		err = j.log.Sync()
	}
	if err != nil && scan.Epoch == 0 {
		return err // the number of a life that did not begin is not used up
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(err, j.saveState(true))
}

// openLog opens the segments and decides the epoch: that of the segments; where
// there are none, one more than the state file knows.
func (j *Journal) openLog(known bool) (wal.Scan, []event.Event, error) {
	var newest []byte
	var kind wal.Kind
	last := j.state.Epoch
	begin := max(last+1, j.c.AtLeast)
	switch {
	case j.reserved:
		begin = last
	case j.why == "" && known:
		j.why = fmt.Sprintf("the journal of epoch %d is gone", last)
	case j.why == "":
		j.why = "first start, or the state partition was erased"
	}
	log, scan, err := wal.Open(j.c.FS, wal.Options{
		Epoch: begin, MaxBytes: j.c.MaxBytes,
		Known: wal.Place{Epoch: j.state.Epoch, Sequence: j.state.Durable},
		Each: func(r wal.Record) error {
			newest, kind = append(newest[:0], r.Payload...), r.Kind
			return nil
		},
	})
	if err != nil {
		return wal.Scan{}, nil, err
	}
	j.log = log
	if scan.Last > 0 {
		if j.head, err = audit.HashOf(wal.Record{Sequence: scan.Last, Kind: kind, Payload: newest}); err != nil {
			return wal.Scan{}, nil, err
		}
	}
	j.found, j.told = scan.Last, log.Durable()
	damage := append(scan.Damage, j.missing(scan)...)
	if log.Epoch() != last {
		j.state, j.dirty = state{Epoch: log.Epoch(), Flash: j.state.Flash, Again: j.state.Again}, true
	}
	var found []event.Event
	if scan.Torn != nil {
		found = append(found, incident(finding.JournalTorn, scan.Torn.String()))
	}
	for _, text := range j.tell(damage) {
		found = append(found, incident(finding.JournalCorrupt, text))
	}
	return scan, found, nil
}

// missing compares the segments with the state file: records that were durable
// and are not at the end, or that were neither confirmed nor dropped and are
// not at the begin. The next record comes behind what is missing, so that no
// number is used twice.
func (j *Journal) missing(scan wal.Scan) []wal.Damage {
	var out []wal.Damage
	lack := func(first, last uint64) {
		out = append(out, wal.Damage{Segment: stateFile, Reason: fmt.Sprintf("records %d to %d were durable and are missing", first, last)})
	}
	if scan.Epoch == 0 || scan.Epoch != j.state.Epoch {
		return nil
	}
	if before := max(j.state.Acknowledged, j.state.Gone) + 1; scan.First > before {
		lack(before, scan.First-1)
	}
	if scan.Last < j.state.Durable {
		lack(scan.Last+1, j.state.Durable)
		j.head = j.state.Head
	}
	return out
}
