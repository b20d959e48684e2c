// Package journal is the device's record of events and the bus between its
// roles: they record, and whoever passes events on reads by cursor. Each record
// names the hash of the one before it (package chain), so nothing can be
// changed or taken out without the next record telling; a signed receipt of the
// fleet, and nothing else, lets records go.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Errors of Acknowledge.
var (
	// ErrForeignHead: the receipt names a chain head that is not in this journal.
	ErrForeignHead = errors.New("the receipt names a record that this journal does not hold")
	// ErrEpoch: the receipt is for another life of the journal.
	ErrEpoch = errors.New("the receipt is for another epoch of the journal")
)

// subject is what the journal's own findings are about.
const subject = "journal"

// DefaultBytes bounds a journal for which nothing else is said.
const DefaultBytes = 16 << 20

// flushEvery is how long an event that is not grave may wait for its fsync.
const flushEvery = time.Second

// Config of a journal.
type Config struct {
	Dir       string // where the state file lies; empty: in memory, no state is kept
	Source    event.Source
	Boot      string               // the kernel's boot id
	Monotonic func() time.Duration // time since the kernel started
	MaxBytes  int64
	Log       *slog.Logger
	FS        wal.FS // where the segments lie; Dir when nil
	Alive     func() // told that Run makes progress; may be nil
}

// Journal is an open journal.
type Journal struct {
	c   Config
	log *wal.Log

	mu      sync.Mutex
	state   state
	saved   []byte     // the state file's content
	dirty   bool       // the state should be written soon
	head    chain.Hash // of the newest record
	found   uint64     // the newest record when the journal was opened
	changed chan struct{}
	told    uint64 // the newest record that waiters were told of
	lost    int    // events that found no room in memory
	failing bool   // the condition is raised
	gone    int    // damaged segments of which it was told that they are not kept

	overflow time.Time // when events were last said to have lost their content
	shed     int       // since then
}

// Status is the journal as others see it.
type Status struct {
	Epoch        uint64     `json:"epoch"`
	Sequence     uint64     `json:"sequence"` // of the newest event
	Durable      uint64     `json:"durable"`  // on the disk for good
	Acknowledged uint64     `json:"acknowledged"`
	Head         chain.Hash `json:"head"`
	Bytes        int64      `json:"bytes"`
	MaxBytes     int64      `json:"maxBytes"`
	Written      uint64     `json:"written"` // bytes since the daemon's start
	Lost         int        `json:"lost"`    // events that could not be kept
	Kept         int        `json:"kept"`    // damaged segments that are kept aside
	Error        string     `json:"error,omitempty"`
}

// Open opens the journal or begins one, and records what it found: a new begin,
// an unfinished end, damage.
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
	j := &Journal{c: c, changed: make(chan struct{})}
	known, err := j.loadState()
	if err != nil {
		return nil, err
	}
	var begun []event.Event
	if ownDir {
		if begun, err = j.putForeignAside(); err != nil {
			return nil, err
		}
	}
	found, err := j.openLog(known)
	if err != nil {
		return nil, err
	}
	begun = append(found, begun...)
	for _, e := range begun {
		if err := j.Record(context.Background(), e); err != nil {
			c.Log.Error("record the journal's state", "error", err)
		}
	}
	// What the last run may have left without a sync is written again now, so
	// that it can be read.
	if err := j.log.Sync(); err != nil {
		c.Log.Debug("sync journal", "error", err) // Run raises the condition
	}
	j.told = j.log.Newest()
	return j, nil
}

// openLog opens the segments and decides the epoch: that of the segments; where
// there are none, one more than the state file knows.
func (j *Journal) openLog(known bool) ([]event.Event, error) {
	var newest []byte
	var kind wal.Kind
	log, scan, err := wal.Open(j.c.FS, wal.Options{
		Epoch: j.state.Epoch + 1, MaxBytes: j.c.MaxBytes,
		Known: wal.Place{Epoch: j.state.Epoch, Sequence: j.state.Durable},
		Each: func(r wal.Record) error {
			newest, kind = append(newest[:0], r.Payload...), r.Kind
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	j.log = log
	if scan.Last > 0 {
		if j.head, err = hashOf(wal.Record{Sequence: scan.Last, Kind: kind, Payload: newest}); err != nil {
			return nil, err
		}
	}
	j.found, j.told = scan.Last, log.Durable()
	last, damage := j.state.Epoch, append(scan.Damage, j.missing(scan)...)
	if log.Epoch() != last {
		j.state, j.dirty = state{Epoch: log.Epoch()}, true
	}
	var found []event.Event
	if scan.Epoch == 0 {
		detail := fmt.Sprintf("epoch %d: first start, or the state partition was erased", log.Epoch())
		if known {
			detail = fmt.Sprintf("epoch %d: the journal of epoch %d is gone", log.Epoch(), last)
		}
		found = append(found, incident(finding.JournalReset, detail))
	}
	if scan.Torn != nil {
		found = append(found, incident(finding.JournalTorn, scan.Torn.String()))
	}
	for _, text := range j.tell(damage) {
		found = append(found, incident(finding.JournalCorrupt, text))
	}
	if err := j.saveState(); err != nil {
		j.c.Log.Error("save the journal's state", "error", err)
	}
	return found, nil
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

func incident(code finding.Code, detail string) event.Event {
	f := finding.New(code, detail)
	return event.Event{Type: event.FindingIncident, Subject: subject, Severity: f.Severity, Finding: &f}
}

// Record gives the event its place in the chain. It returns after the fsync for
// events of high and critical severity, at once for the others. An error means
// that the event was not kept; a disk that fails for a while is no error as
// long as memory holds what waits.
func (j *Journal) Record(_ context.Context, e event.Event) error {
	if err := j.append(e); err != nil {
		return err
	}
	if e.Severity >= finding.High {
		if err := j.log.Sync(); err != nil {
			j.c.Log.Debug("sync journal", "error", err) // Run raises the condition
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wake()
	return nil
}

func (j *Journal) append(e event.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	stamp := event.Stamp{
		Source: j.c.Source, Epoch: j.state.Epoch, Sequence: j.log.Next(), Boot: j.c.Boot,
		Monotonic: j.c.Monotonic(), Prev: j.head,
	}
	b, err := event.Encode(e, stamp)
	if err != nil {
		return fmt.Errorf("record event: %w", err)
	}
	// While the disk fails, the last quarter of the memory is kept for what is
	// grave.
	err = wal.ErrFull
	if e.Severity >= finding.High || j.log.Waiting() < j.log.MaxPending()/4*3 {
		_, err = j.log.Append(b)
	}
	if err != nil {
		j.lost++
		return fmt.Errorf("record event: %w", err)
	}
	j.head = chain.Next(b)
	return nil
}

// wake tells those who wait that there is more to read. The caller holds the
// lock.
func (j *Journal) wake() {
	newest := j.log.Newest()
	if newest <= j.told {
		return
	}
	j.told = newest
	close(j.changed)
	j.changed = make(chan struct{})
}

// Read returns up to limit records behind a sequence, oldest first: those that
// are durable, so that nothing is passed on that a power cut could take back;
// while the disk fails, those in memory as well. One that lost its content has
// no Bytes.
func (j *Journal) Read(_ context.Context, after uint64, limit int) ([]event.Record, error) {
	records, err := j.log.Read(after, limit)
	out := make([]event.Record, 0, len(records))
	for _, r := range records {
		h, herr := hashOf(r)
		if herr != nil {
			return out, herr
		}
		e := event.Record{Epoch: j.Epoch(), Sequence: r.Sequence, Hash: h}
		if r.Kind == wal.Full {
			e.Bytes = r.Payload
		}
		out = append(out, e)
	}
	return out, err
}

func hashOf(r wal.Record) (chain.Hash, error) {
	if r.Kind == wal.Full {
		return chain.Next(r.Payload), nil
	}
	if len(r.Payload) != chain.Size {
		return chain.Hash{}, fmt.Errorf("read journal: record %d has no hash", r.Sequence)
	}
	return chain.Hash(r.Payload), nil
}

// Wait returns when there is a record behind a sequence, or ctx ends.
func (j *Journal) Wait(ctx context.Context, after uint64) error {
	for {
		j.mu.Lock()
		changed, newest := j.changed, j.log.Newest()
		j.mu.Unlock()
		if newest > after {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Epoch is the number of the journal's life.
func (j *Journal) Epoch() uint64 { j.mu.Lock(); defer j.mu.Unlock(); return j.state.Epoch }

// Head is the newest record that readers get, with its hash: one that no power cut
// takes back, so that others may hold later words of the device against it.
// Sequence 0: there is none yet.
func (j *Journal) Head() (sequence uint64, h chain.Hash, err error) {
	newest := j.log.Newest()
	if newest == 0 {
		return 0, chain.Hash{}, nil
	}
	records, err := j.log.Read(newest-1, 1)
	if err != nil {
		return 0, chain.Hash{}, fmt.Errorf("read the journal's head: %w", err)
	}
	if len(records) == 0 || records[0].Sequence != newest {
		return 0, chain.Hash{}, fmt.Errorf("read the journal's head: record %d is not there", newest)
	}
	h, err = hashOf(records[0])
	return newest, h, err
}

// Acknowledged is the sequence up to which the fleet has confirmed.
func (j *Journal) Acknowledged() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.Acknowledged
}

// Acknowledge takes what a verified receipt says: the fleet holds everything up
// to a sequence, whose record has this hash. A hash that is not this journal's
// gives ErrForeignHead and frees nothing; a receipt that says less than an
// earlier one changes nothing.
func (j *Journal) Acknowledge(epoch, sequence uint64, head chain.Hash) error {
	if own := j.Epoch(); epoch != own {
		return fmt.Errorf("%w: %d, this one is %d", ErrEpoch, epoch, own)
	}
	acknowledged := j.Acknowledged()
	if sequence < acknowledged {
		return nil
	}
	records, err := j.log.Read(sequence-1, 1)
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	if len(records) == 0 || records[0].Sequence != sequence {
		if sequence == acknowledged {
			return nil // recycled since
		}
		return fmt.Errorf("%w: sequence %d", ErrForeignHead, sequence)
	}
	if h, err := hashOf(records[0]); err != nil || h != head {
		return fmt.Errorf("%w: sequence %d has %s, the receipt says %s", ErrForeignHead, sequence, h, head)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if sequence > j.state.Acknowledged {
		j.state.Acknowledged, j.dirty = sequence, true
	}
	return nil
}

// Status says how the journal is.
func (j *Journal) Status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Status{
		Epoch: j.state.Epoch, Sequence: j.log.Next() - 1, Durable: j.log.Durable(), Acknowledged: j.state.Acknowledged,
		Head: j.head, Bytes: j.log.Size(), MaxBytes: j.c.MaxBytes, Written: j.log.Written(), Lost: j.lost,
		Kept: j.log.Kept().Files,
	}
	if err := j.log.Failing(); err != nil {
		s.Error = err.Error()
	}
	return s
}

// Close makes everything durable and closes the journal.
func (j *Journal) Close() error {
	err := j.log.Close()
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(err, j.saveState())
}
