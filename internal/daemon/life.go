package daemon

import (
	"cmp"
	"context"
	"time"

	"ward/internal/agent/health"
	"ward/internal/device/wal"
)

const (
	// anewEvery is how long a journal lasts at least before another is begun in its
	// place because somebody proved it to be an older copy, so that nobody can drive
	// the daemon in circles. The proof waits so long and is then acted on. Whoever
	// brought it may stand still meanwhile: it is less than slowBound.
	anewEvery = 2 * time.Minute
	// healEvery is how often a disk that could not be used is tried again.
	healEvery = 30 * time.Second
)

// life is why a life of the daemon was begun behind another one in the same
// process: the roles of the one before were stopped, and everything is assembled
// again. The zero value is that of the first.
type life struct {
	why     string    // for the record
	anew    string    // the journal on the disk is to be put aside: why
	atLeast uint64    // the least epoch of the one to begin
	since   uint64    // what stands behind it in the one put aside is of this process
	begun   time.Time // when a journal was last begun anew, in the process
	healed  bool      // the journal's disk can be used again

	memory      wal.FS // the record of the life before, when it was kept in memory
	memorySince uint64 // up to here the fleet has confirmed it
}

// live lives one life after the other until ctx ends. It returns an error when no
// record can be kept at all.
func (d *daemon) live(ctx context.Context, dog health.Watchdog, configErr error, privileges string) error {
	for d != nil {
		if err := d.open(); err != nil {
			return err
		}
		d.health = health.New(d.recorder, dog, d.log)
		d.begin(ctx, configErr, privileges)
		d.assemble()
		d = d.run(ctx)
	}
	return nil
}

// replaced is told that the journal on the disk is not the one that this device
// had: an older copy, or another's. The daemon begins again, with a journal of an
// epoch that is atLeast and greater than every one known.
func (d *daemon) replaced(detail string, atLeast uint64) {
	if d.unkept != nil {
		return // this life's record lies in memory: nobody replaced it
	}
	n := d.successor()
	n.life.anew, n.life.atLeast, n.life.begun = detail, atLeast, time.Now()
	n.life.why = "the journal was replaced: " + detail
	select {
	case d.after <- n:
		d.log.Error("the journal is not the one that this device had; another is begun", "detail", detail)
	default: // told before
	}
}

// successor is a life behind this one, without a journal.
func (d *daemon) successor() *daemon {
	n := &daemon{config: d.config, configFile: d.configFile, log: d.log, started: d.started, notify: d.notify, chip: d.chip, early: d.early, healAfter: d.healAfter}
	n.life.begun = d.life.begun
	return n
}

// awaitNext returns the next life when there is a reason for one, nil when ctx has
// ended.
func (d *daemon) awaitNext(ctx context.Context) *daemon {
	select {
	case <-ctx.Done():
		return nil
	case n := <-d.after:
		if wait := anewEvery - time.Since(d.life.begun); n.life.anew != "" && !d.life.begun.IsZero() && wait > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
			n.life.begun = time.Now()
		}
		select {
		case more := <-d.after: // told once more meanwhile
			n.life.atLeast = max(n.life.atLeast, more.life.atLeast)
		default:
		}
		return n
	}
}

// handOver gives the next life what only this one holds. Its journal is closed.
func (d *daemon) handOver(n *daemon) {
	if d.unkept != nil {
		n.life.memory, n.life.memorySince = d.memory, d.journal.Since()
		return
	}
	n.life.since = d.journal.Since()
}

// discard closes what was opened for a life that does not come.
func (d *daemon) discard() {
	select {
	case n := <-d.after:
		if n.journal != nil {
			_ = n.journal.Close()
		}
	default:
	}
}

// heal tries the disk again while the record is kept in memory. When the journal
// can be opened and written, the next life goes on with it.
func (d *daemon) heal(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(cmp.Or(d.healAfter, healEvery)):
		}
		d.alive("heal")()
		n := d.successor()
		n.identify()
		n.life.healed, n.life.why = true, "the journal's disk can be used again"
		n.life.anew, n.life.atLeast, n.life.since = d.life.anew, d.life.atLeast, d.life.since
		if err := n.openJournal(); err != nil {
			d.log.Debug("open the journal", "error", err)
			continue
		}
		d.after <- n // one place, and nobody else fills it in this life
		<-ctx.Done()
		return nil
	}
}
