package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"

	"ward/internal/agent/journal"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// maxOnce bounds the incidents of a boot that are remembered. What is beyond it
	// may be told again after the daemon's next start, and is never kept back.
	maxOnce = 8192
	// onceBatch is how many records are read at once.
	onceBatch = 128
)

// once are the incidents that were told in this boot, by this run of the daemon and
// by those before it: whoever starts in the middle of a boot meets the whole
// measurement list again, and only the journal knows what of it was told.
type once struct {
	journal *journal.Journal
	boot    string
	log     *slog.Logger

	mu   sync.Mutex
	seen map[[16]byte]struct{} // nil: the journal was not read yet
}

func newOnce(j *journal.Journal, boot string, log *slog.Logger) *once {
	return &once{journal: j, boot: boot, log: log}
}

func onceKey(subject string, f finding.Finding) [16]byte {
	sum := sha256.Sum256([]byte(string(f.Code) + "\x00" + subject + "\x00" + f.Found))
	return [16]byte(sum[:])
}

// first says whether an incident was not told in this boot; from now on it is. The
// journal is read at the first question, as most starts have none.
func (o *once) first(ctx context.Context, subject string, f finding.Finding) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen == nil {
		o.seen = make(map[[16]byte]struct{})
		if err := o.load(ctx); err != nil {
			o.log.Warn("look for what was told in this boot", "error", err)
		}
	}
	key := onceKey(subject, f)
	if _, again := o.seen[key]; again {
		return false
	}
	o.add(key)
	return true
}

func (o *once) add(key [16]byte) {
	if len(o.seen) < maxOnce {
		o.seen[key] = struct{}{}
	}
}

// load reads the incidents of this boot. Most records are of other boots or types,
// and are not parsed.
func (o *once) load(ctx context.Context) error {
	boot, kind := []byte(o.boot), []byte(event.FindingIncident)
	for after := uint64(0); ; {
		records, err := o.journal.Read(ctx, after, onceBatch)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			after = r.Sequence
			if !bytes.Contains(r.Bytes, boot) || !bytes.Contains(r.Bytes, kind) {
				continue
			}
			e, err := event.Parse(r.Bytes)
			if err != nil || e.Boot != o.boot || e.Type != event.FindingIncident || e.Finding == nil {
				continue
			}
			o.add(onceKey(e.Subject, *e.Finding))
		}
	}
}
