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
	// maxTold bounds the incidents of a boot that are remembered. What is beyond it
	// may be told again after the daemon's next start, and is never kept back.
	maxTold = 8192
	// toldBatch is how many records are read at once.
	toldBatch = 128
)

// told are the incidents that were told in this boot, by this run of the daemon and
// by those before it: whoever starts in the middle of a boot meets the whole
// measurement list again, and only the journal knows what of it was told.
type told struct {
	journal *journal.Journal
	boot    string
	log     *slog.Logger

	mu   sync.Mutex
	seen map[[16]byte]struct{} // nil: the journal was not read yet
}

func newTold(j *journal.Journal, boot string, log *slog.Logger) *told {
	return &told{journal: j, boot: boot, log: log}
}

func toldKey(subject string, f finding.Finding) [16]byte {
	sum := sha256.Sum256([]byte(string(f.Code) + "\x00" + subject + "\x00" + f.Found))
	return [16]byte(sum[:])
}

// first says whether an incident was not told in this boot; from now on it is. The
// journal is read at the first question, as most starts have none.
func (t *told) first(ctx context.Context, subject string, f finding.Finding) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = make(map[[16]byte]struct{})
		if err := t.load(ctx); err != nil {
			t.log.Warn("look for what was told in this boot", "error", err)
		}
	}
	key := toldKey(subject, f)
	if _, again := t.seen[key]; again {
		return false
	}
	t.add(key)
	return true
}

func (t *told) add(key [16]byte) {
	if len(t.seen) < maxTold {
		t.seen[key] = struct{}{}
	}
}

// load reads the incidents of this boot. Most records are of other boots or types,
// and are not parsed.
func (t *told) load(ctx context.Context) error {
	boot, kind := []byte(t.boot), []byte(event.FindingIncident)
	for after := uint64(0); ; {
		records, err := t.journal.Read(ctx, after, toldBatch)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			after = r.Sequence
			if !bytes.Contains(r.Bytes, boot) || !bytes.Contains(r.Bytes, kind) {
				continue
			}
			e, err := event.Parse(r.Bytes)
			if err != nil || e.Boot != t.boot || e.Type != event.FindingIncident || e.Finding == nil {
				continue
			}
			t.add(toldKey(e.Subject, *e.Finding))
		}
	}
}
