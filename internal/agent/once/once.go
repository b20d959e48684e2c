// Package once knows which incidents were told in this boot, by this run of the
// daemon and by those before it (blueprint, section 6: an incident is only raised).
// Who starts in the middle of a boot meets the kernel's whole measurement list
// again, and only the journal knows what of it was told.
package once

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"

	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// maxSeen bounds the incidents of a boot that are remembered. What is beyond it
	// may be told again after the daemon's next start, and is never kept back.
	maxSeen = 8192
	// batch is how many records are read at once.
	batch = 128
)

// Journal is the record by cursor.
type Journal interface {
	// Read returns up to limit records behind a sequence number, oldest first.
	Read(ctx context.Context, after uint64, limit int) ([]event.Record, error)
}

// Incidents are those of one boot. It is safe for concurrent use.
type Incidents struct {
	journal Journal
	boot    string
	log     *slog.Logger

	mu   sync.Mutex
	seen map[[16]byte]struct{} // nil: the journal was not read yet
}

// New knows the incidents of a boot, by the kernel's boot id.
func New(j Journal, boot string, log *slog.Logger) *Incidents {
	return &Incidents{journal: j, boot: boot, log: log}
}

// keyOf names an incident. Its path is taken rather than its subject, which an event
// cuts, and in the form that an event gives it.
func keyOf(subject string, f finding.Finding) [16]byte {
	if f.Path != "" {
		subject = f.Path
	}
	sum := sha256.Sum256([]byte(string(f.Code) + "\x00" + event.Visible(subject) + "\x00" + event.Visible(f.Found)))
	return [16]byte(sum[:])
}

// First says whether an incident was not told in this boot; from now on it is. The
// journal is read at the first question, as most starts have none.
func (i *Incidents) First(ctx context.Context, subject string, f finding.Finding) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.seen == nil {
		i.seen = make(map[[16]byte]struct{})
		if err := i.load(ctx); err != nil {
			i.log.Warn("look for what was told in this boot", "error", err)
		}
	}
	key := keyOf(subject, f)
	if _, again := i.seen[key]; again {
		return false
	}
	i.add(key)
	return true
}

func (i *Incidents) add(key [16]byte) {
	if len(i.seen) < maxSeen {
		i.seen[key] = struct{}{}
	}
}

// load reads the incidents of this boot. Most records are of other boots or types,
// and are not parsed.
func (i *Incidents) load(ctx context.Context) error {
	boot, kind := []byte(i.boot), []byte(event.FindingIncident)
	for after := uint64(0); ; {
		records, err := i.journal.Read(ctx, after, batch)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			after = r.Sequence
			if !bytes.Contains(r.Bytes, boot) || !bytes.Contains(r.Bytes, kind) {
				continue
			}
			e, err := event.Parse(r.Bytes)
			if err != nil || e.Boot != i.boot || e.Type != event.FindingIncident || e.Finding == nil {
				continue
			}
			i.add(keyOf(e.Subject, *e.Finding))
		}
	}
}
