package verifier

import (
	"fmt"
	"time"

	"ward/internal/fleet/register"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/verdict"
)

// device is what the verifier knows of one device. The exported part is kept in
// the state file.
type device struct {
	Key      *register.Key    `json:"key,omitempty"`      // the first that was registered, or its recorded successor
	Since    *appraisal.Since `json:"since,omitempty"`    // what evidence has established
	Accepted time.Time        `json:"accepted,omitzero"`  // when
	Question *question        `json:"question,omitempty"` // that waits for its answer
	Missing  bool             `json:"missing,omitempty"`  // an answer is missing, and that was told
	Running  *running         `json:"running,omitempty"`  // components that ran, by the newest evidence that told

	tenant, name string
	online       bool
	boot         string    // as the birth says
	next         time.Time // when to ask again
	asked        time.Time // when it was asked last
	excused      bool      // it was not there all the while since then
	misses       int       // questions in a row without an answer
	whole        bool      // ask for everything, whatever is held
	over         []past    // nonces that are over, the oldest first
	log          pcr.Digest

	last        pcr.Digest // SHA-256 of the last document, which the broker may deliver again
	parts       evidence.Assembler
	partCame    time.Time
	windowBegun time.Time
	bytes       int
	documents   int
	told        map[finding.Code]*tally
}

// tally bounds how often one kind of incident is told of one device.
type tally struct {
	last    time.Time
	skipped int
}

// tell says the first incident of a kind at once and then one a minute, with the
// number of those in between.
func (d *device) tell(now time.Time, code finding.Code, detail string) []verdict.Statement {
	t := d.told[code]
	if t == nil {
		t = &tally{}
		if d.told == nil {
			d.told = make(map[finding.Code]*tally)
		}
		d.told[code] = t
	} else if now.Sub(t.last) < window {
		t.skipped++
		return nil
	}
	if t.skipped > 0 {
		detail += fmt.Sprintf(" (and %d more since %s)", t.skipped, t.last.UTC().Format(time.RFC3339))
	}
	t.last, t.skipped = now, 0
	f := finding.New(code, detail)
	return []verdict.Statement{d.state(&f)}
}

func (d *device) state(f *finding.Finding) verdict.Statement {
	return verdict.Statement{Tenant: d.tenant, Device: d.name, Finding: f}
}
