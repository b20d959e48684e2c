package attester

import (
	"encoding/json"
	"errors"
	"io/fs"

	"ward/internal/device/statefile"
	"ward/internal/trust/appraisal"
)

// loadKnown reads what an earlier run of the daemon established in this boot. A
// file that cannot be read counts as none: without it a device that slept may
// look altered, and never the other way round.
func (a *Attester) loadKnown() *appraisal.Since {
	if a.config.State == "" {
		return nil
	}
	b, err := statefile.Read(a.config.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s appraisal.Since
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		a.config.Log.Warn("what was known of this boot cannot be read", "error", err)
		return nil
	}
	if s.Boot != a.config.Boot {
		return nil
	}
	return &s
}

// keep remembers the first clock of the boot, to tell later whether the TPM was
// started anew since. The list and the record are not held against earlier ones:
// the device reads both itself.
func (a *Attester) keep(s *appraisal.Since) {
	if s == nil || a.since() != nil {
		return
	}
	known := &appraisal.Since{Boot: s.Boot, Clock: s.Clock}
	a.mu.Lock()
	a.known = known
	a.mu.Unlock()
	if a.config.State == "" {
		return
	}
	b, err := json.Marshal(known)
	if err == nil {
		err = statefile.Write(a.config.State, append(b, '\n'))
	}
	if err != nil {
		a.config.Log.Warn("keep what is known of this boot", "error", err)
	}
}
