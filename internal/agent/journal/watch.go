package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ward/internal/device/statefile"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Shares of MaxBytes, in percent, that unconfirmed records take when the journal
// is said to fill, gravely so, and not any more.
const (
	fillingAt = 75
	graveAt   = 90
	clearAt   = 60
)

// FlashBudget is how many bytes Ward may write on a day of running before that is
// a finding. A small eMMC of 4 GB whose blocks bear 3,000 cycles takes some 300 MB
// a day for ten years when each byte costs ten (write amplification of small
// synced writes); Ward's share is a tenth. An idle day stays under 1 MiB.
const FlashBudget = 32 << 20

// stepBound is the step of the wall clock that is told. Slewing, at most 0.5 ms a
// second (adjtimex(2)), stays under it.
const stepBound = time.Second

// readBound is how long reading both clocks may take for the comparison to count.
const readBound = 100 * time.Millisecond

// day is a day of running: time in which the device is off is no time to write in.
const day = 24 * time.Hour

// Flash is what was written, segments and state files, as programs count it; what
// the file system adds is not in it. It is kept over restarts; at a power cut what
// was counted since the last write of the state is lost.
type Flash struct {
	Today   uint64 `json:"today"`   // bytes
	Elapsed int64  `json:"elapsed"` // seconds of the present day of running
	Before  uint64 `json:"before"`  // bytes on the day before
	Total   uint64 `json:"total"`   // bytes, ever
}

// watch is what Run compares from tick to tick.
type watch struct {
	full, worn finding.Severity // of the conditions that are raised
	counted    uint64           // bytes that are in the state's count
	at         time.Time        // when they were counted

	grown int64 // unconfirmed bytes when they were least, lately
	since time.Time

	offset  time.Duration // the wall clock less the boot's
	started bool          // there is one to compare with
}

func newWatch() watch {
	return watch{counted: statefile.Written(), at: time.Now()}
}

// look raises and clears the journal's own conditions and tells of steps of the
// wall clock.
func (j *Journal) look(ctx context.Context) {
	now := time.Now()
	j.mu.Lock()
	j.count(now)
	flash, acknowledged := j.state.Flash, j.state.Acknowledged
	j.mu.Unlock()
	j.filling(ctx, now, j.log.Behind(acknowledged))
	severity := finding.Severity(0)
	if flash.Today > FlashBudget {
		severity = finding.Medium
	}
	j.condition(ctx, &j.watch.worn, finding.JournalFlash, severity, fmt.Sprintf("%d KiB written within %s, the day before %d KiB; the budget of a day is %d KiB",
		flash.Today>>10, time.Duration(flash.Elapsed)*time.Second, flash.Before>>10, FlashBudget>>10))
	j.clock(ctx, now)
}

// count brings the count of written bytes up to date. The caller holds the lock.
func (j *Journal) count(now time.Time) {
	w, f := &j.watch, &j.state.Flash
	written := statefile.Written()
	if !event.Volatile(j.state.Epoch) {
		written += j.log.Written()
	}
	f.Today += written - w.counted
	f.Total += written - w.counted
	w.counted = written
	passed := int64(now.Sub(w.at) / time.Second)
	f.Elapsed += passed
	w.at = w.at.Add(time.Duration(passed) * time.Second)
	for full := int64(day / time.Second); f.Elapsed >= full; f.Elapsed -= full {
		f.Before, f.Today = f.Today, 0
	}
}

// filling compares the unconfirmed bytes with the journal's bound.
func (j *Journal) filling(ctx context.Context, now time.Time, bytes int64) {
	w := &j.watch
	if w.since.IsZero() || bytes < w.grown {
		w.grown, w.since = bytes, now
	}
	severity := w.full
	switch share := bytes * 100 / j.c.MaxBytes; {
	case share >= graveAt:
		severity = finding.High
	case share >= fillingAt:
		severity = max(severity, finding.Medium)
	case share < clearAt:
		severity = 0
	}
	detail := fmt.Sprintf("%d of %d KiB are not confirmed by the fleet", bytes>>10, j.c.MaxBytes>>10)
	if took, more := now.Sub(w.since), bytes-w.grown; severity > 0 && took >= time.Minute && more > 0 {
		left := time.Duration(float64(max(0, j.c.MaxBytes-bytes)) / float64(more) * float64(took))
		detail += fmt.Sprintf("; at the rate of the last %s the rest lasts for %s", took.Round(time.Minute), left.Round(time.Minute))
	}
	j.condition(ctx, &w.full, finding.JournalFilling, severity, detail)
}

// condition raises, raises with another severity or clears (0) what was raised
// with another one before.
func (j *Journal) condition(ctx context.Context, raised *finding.Severity, code finding.Code, severity finding.Severity, detail string) {
	before := *raised
	if before == severity {
		return
	}
	*raised = severity
	f, kind := finding.New(code, detail), event.FindingRaised
	if f.Severity = severity; severity == 0 {
		f.Severity, kind = before, event.FindingCleared
	}
	j.note(ctx, event.Event{Type: kind, Subject: subject, Severity: f.Severity, Finding: &f})
}

// step is the report of a ward.clock.stepped event.
type step struct {
	From    time.Time `json:"from"` // what the wall clock would show without the step
	To      time.Time `json:"to"`
	Seconds float64   `json:"seconds"`
}

// clock compares the wall clock with the boot's. The first goes on by other steps
// than the second only when somebody sets it.
func (j *Journal) clock(ctx context.Context, now time.Time) {
	before := j.c.Monotonic()
	wall := time.Duration(time.Now().UnixNano())
	boot := j.c.Monotonic()
	if boot-before > readBound {
		return // the process was held up between the two
	}
	w := &j.watch
	offset, moved := wall-boot, wall-boot-w.offset
	compared := w.started
	w.offset, w.started = offset, true
	if !compared || moved.Abs() <= stepBound {
		return
	}
	to := now.Round(0).UTC()
	report, err := json.Marshal(step{From: to.Add(-moved), To: to, Seconds: moved.Round(time.Millisecond).Seconds()})
	if err != nil {
		j.c.Log.Warn("tell of a step of the clock", "error", err) // a year that RFC 3339 cannot write
		return
	}
	j.note(ctx, event.Event{Type: event.ClockStepped, Subject: "clock", Severity: finding.Low, Report: report})
}
