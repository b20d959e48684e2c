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

	"ward/internal/agent/journal/audit"
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
	// ErrClosed: the journal was closed; another may lie in its place.
	ErrClosed = errors.New("the journal is closed")
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
	// Anew says why the journal that lies in Dir is put aside and another begun;
	// empty: it is gone on with. What stands in it behind Since is of this run of
	// the daemon and is recorded again.
	Anew  string
	Since uint64
	// AtLeast is the least epoch of a journal that is begun.
	AtLeast uint64
	// Note takes what Run has to tell; nil: Record.
	Note func(ctx context.Context, e event.Event) error
}

// Journal is an open journal.
type Journal struct {
	c   Config
	log *wal.Log

	gate   sync.RWMutex // held while the disk is used, so that nothing is written behind Close
	closed bool

	mu      sync.Mutex
	state   state
	saved   []byte     // the state that was written, without what is counted
	dirty   bool       // the state should be written soon
	head    chain.Hash // of the newest record
	found   uint64     // the newest record when the journal was opened
	changed chan struct{}
	told    uint64 // the newest record that waiters were told of
	lost    int    // events that found no room in memory
	failing bool   // the condition is raised
	gone    int    // damaged segments of which it was told that they are not kept

	why      string // the journal was begun
	reserved bool   // the state's epoch is that of the journal to begin
	watch    watch
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
	Unconfirmed  int64      `json:"unconfirmed"` // bytes of what the fleet has not confirmed
	Flash        Flash      `json:"flash"`
	Lost         int        `json:"lost"` // events that could not be kept
	Kept         int        `json:"kept"` // damaged segments that are kept aside
	Error        string     `json:"error,omitempty"`
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
		if err := j.sync(); err != nil {
			j.c.Log.Debug("sync journal", "error", err) // Run raises the condition
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wake()
	return nil
}

// sync makes what was recorded durable.
func (j *Journal) sync() error {
	j.gate.RLock()
	defer j.gate.RUnlock()
	if j.closed {
		return ErrClosed
	}
	return j.log.Sync()
}

func (j *Journal) append(e event.Event) error {
	j.gate.RLock()
	defer j.gate.RUnlock()
	if j.closed {
		return fmt.Errorf("record event: %w", ErrClosed)
	}
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
	j.gate.RLock()
	defer j.gate.RUnlock()
	if j.closed {
		return nil, ErrClosed
	}
	records, err := j.log.Read(after, limit)
	out := make([]event.Record, 0, len(records))
	for _, r := range records {
		h, herr := audit.HashOf(r)
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
	h, err = audit.HashOf(records[0])
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
		if newest := j.log.Next() - 1; sequence > newest {
			return fmt.Errorf("%w: record %d is ahead of the newest, %d: %w", ErrForeignHead, sequence, newest, chain.ErrFork)
		}
		return fmt.Errorf("%w: sequence %d", ErrForeignHead, sequence)
	}
	h, err := audit.HashOf(records[0])
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	if h != head {
		return fmt.Errorf("%w: sequence %d has %s, the receipt says %s: %w", ErrForeignHead, sequence, h, head, chain.ErrFork)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if sequence > j.state.Acknowledged {
		j.state.Acknowledged, j.dirty = sequence, true
	}
	return nil
}

// Since is the sequence behind which the records are of this run of the daemon
// and not confirmed by the fleet.
func (j *Journal) Since() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return max(j.found, j.state.Acknowledged)
}

// Status says how the journal is.
func (j *Journal) Status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.count(time.Now())
	s := Status{
		Epoch: j.state.Epoch, Sequence: j.log.Next() - 1, Durable: j.log.Durable(), Acknowledged: j.state.Acknowledged,
		Head: j.head, Bytes: j.log.Size(), MaxBytes: j.c.MaxBytes, Unconfirmed: j.log.Behind(j.state.Acknowledged),
		Flash: j.state.Flash, Lost: j.lost,
		Kept: j.log.Kept().Files,
	}
	if err := j.log.Failing(); err != nil {
		s.Error = err.Error()
	}
	return s
}

// Close makes everything durable and closes the journal: nothing is written to
// its folder afterwards.
func (j *Journal) Close() error {
	j.gate.Lock()
	defer j.gate.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	err := j.log.Close()
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(err, j.saveState(false))
}
