package release

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/pcr"
	"ward/internal/trust/secureboot"
)

// Bounds of the boot section.
const (
	maxFirmware   = 32   // accepted firmware versions; a fleet that is updated in steps has a few
	maxEvents     = 4096 // events of a register; PCs with many option ROMs log some hundreds
	maxRules      = 64   // event types of a register
	maxRuleDigest = 1024 // digests that one rule allows
	maxComposites = 128
	maxKeys       = 4096 // of one Secure Boot variable; the public dbx has some hundreds
)

// check is steps 5 to 7 of Parse. Errors begin with the field's name.
func (b *Boot) check() error {
	if b.Bank != pcr.SHA256.String() {
		return fmt.Errorf("bank: %q, want %q", b.Bank, pcr.SHA256)
	}
	if len(b.Firmware) == 0 || len(b.Firmware) > maxFirmware {
		return fmt.Errorf("firmware: %d names, want 1 to %d", len(b.Firmware), maxFirmware)
	}
	for i, f := range b.Firmware {
		if err := checkText(f, maxText); err != nil {
			return fmt.Errorf("firmware[%d]: %w", i, err)
		}
		if slices.Contains(b.Firmware[:i], f) {
			return fmt.Errorf("firmware[%d]: %q stands twice", i, f)
		}
	}
	if len(b.PCRs) == 0 {
		return errors.New("pcrs: names no register")
	}
	for _, n := range slices.Sorted(maps.Keys(b.PCRs)) {
		if n < 0 || n >= pcr.Count {
			return fmt.Errorf("pcrs.%d: want 0 to %d", n, pcr.Count-1)
		}
		r := b.PCRs[n]
		if err := r.check(b.Firmware); err != nil {
			return fmt.Errorf("pcrs.%d: %w", n, err)
		}
	}
	if err := checkSecureBoot(b.SecureBoot); err != nil {
		return err
	}
	return b.checkComposites()
}

// checkSecureBoot checks names of keys: hashes of SHA-1 to SHA-512.
func checkSecureBoot(p *secureboot.Policy) error {
	if p == nil {
		return nil
	}
	for _, l := range []struct {
		name string
		keys []pcr.Digest
	}{{"pk", p.PK}, {"kek", p.KEK}, {"db", p.DB}, {"minimumDbx", p.MinimumDBX}} {
		if len(l.keys) > maxKeys {
			return fmt.Errorf("secureBoot.%s: %d, at most %d", l.name, len(l.keys), maxKeys)
		}
		for i, k := range l.keys {
			if len(k) < pcr.SHA1.Size() || len(k) > pcr.SHA512.Size() {
				return fmt.Errorf("secureBoot.%s[%d]: %d bytes, want a hash", l.name, i, len(k))
			}
		}
	}
	if p.MinimumSBAT != "" {
		if err := checkText(p.MinimumSBAT, maxText); err != nil {
			return fmt.Errorf("secureBoot.minimumSbat: %w", err)
		}
	}
	return nil
}

func (b *Boot) checkComposites() error {
	if len(b.Composites) > maxComposites {
		return fmt.Errorf("composites: %d, at most %d", len(b.Composites), maxComposites)
	}
	for i, c := range b.Composites {
		if len(c.PCRs) == 0 || !slices.IsSorted(c.PCRs) || len(slices.Compact(slices.Clone(c.PCRs))) != len(c.PCRs) {
			return fmt.Errorf("composites[%d].pcrs: %v, want registers in ascending order", i, c.PCRs)
		}
		want, err := b.Composite(c.Firmware, c.PCRs)
		if err != nil {
			return fmt.Errorf("composites[%d]: %w", i, err)
		}
		if !bytes.Equal(c.Digest, want.Digest) {
			return fmt.Errorf("composites[%d].digest: %s, its registers give %s", i, c.Digest, want.Digest)
		}
		if slices.ContainsFunc(b.Composites[:i], func(o Composite) bool { return o.Firmware == c.Firmware && slices.Equal(o.PCRs, c.PCRs) }) {
			return fmt.Errorf("composites[%d]: PCR %v of firmware %q stands twice", i, c.PCRs, c.Firmware)
		}
	}
	return nil
}

func (r *Reference) check(firmware []string) error {
	if r.Reason != "" || r.Mode == Recorded {
		if err := checkText(r.Reason, maxReason); err != nil {
			return fmt.Errorf("reason: %w", err)
		}
	}
	if r.Mode != Exact && len(r.Values) > 0 {
		return fmt.Errorf("values: only an %s register has them", Exact)
	}
	if r.Mode != Events && len(r.Rules) > 0 {
		return fmt.Errorf("rules: only a register of mode %s has them", Events)
	}
	if r.Mode == Recorded && len(r.UserEvents) > 0 {
		return errors.New("userEvents: a recorded register is not judged and has none")
	}
	if err := checkEvents("userEvents", r.UserEvents); err != nil {
		return err
	}
	switch r.Mode {
	case Exact:
		return r.checkValues(firmware)
	case Events:
		return r.checkRules()
	case Recorded:
		return nil
	}
	return fmt.Errorf("mode: %q, want %q, %q or %q", string(r.Mode), Exact, Events, Recorded)
}

func (r *Reference) checkValues(firmware []string) error {
	if len(r.Values) != len(firmware) {
		return fmt.Errorf("values: %d, want one for each of the %d accepted firmware", len(r.Values), len(firmware))
	}
	for i, v := range r.Values {
		at := fmt.Sprintf("values[%d]", i)
		if v.Firmware != firmware[i] {
			return fmt.Errorf("%s.firmware: %q, want %q as in the list of firmware", at, v.Firmware, firmware[i])
		}
		if err := checkDigest(v.Digest); err != nil {
			return fmt.Errorf("%s.digest: %w", at, err)
		}
		if err := checkEvents(at+".events", v.Events); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reference) checkRules() error {
	if len(r.Rules) > maxRules {
		return fmt.Errorf("rules: %d, at most %d", len(r.Rules), maxRules)
	}
	for i, rule := range r.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if err := checkText(rule.Type, maxText); err != nil {
			return fmt.Errorf("%s.type: %w", at, err)
		}
		if rule.Any == (len(rule.Digests) > 0) {
			return fmt.Errorf("%s: want either digests or any", at)
		}
		if len(rule.Digests) > maxRuleDigest {
			return fmt.Errorf("%s.digests: %d, at most %d", at, len(rule.Digests), maxRuleDigest)
		}
		for n, d := range rule.Digests {
			if err := checkDigest(d); err != nil {
				return fmt.Errorf("%s.digests[%d]: %w", at, n, err)
			}
		}
	}
	return nil
}

func checkEvents(name string, events []ReferenceEvent) error {
	if len(events) > maxEvents {
		return fmt.Errorf("%s: %d, at most %d", name, len(events), maxEvents)
	}
	for i, e := range events {
		if err := e.Check(); err != nil {
			return fmt.Errorf("%s[%d].%w", name, i, err)
		}
	}
	return nil
}

// Check tells what a manifest would refuse of an event; the error begins with
// the field's name.
func (e ReferenceEvent) Check() error {
	if err := checkDigest(e.Digest); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	if err := checkText(e.Type, maxText); err != nil {
		return fmt.Errorf("type: %w", err)
	}
	if e.Text != "" {
		if err := checkText(e.Text, maxReason); err != nil {
			return fmt.Errorf("text: %w", err)
		}
	}
	return nil
}

func checkDigest(d pcr.Digest) error {
	if len(d) != pcr.SHA256.Size() {
		return fmt.Errorf("%d bytes, want %d", len(d), pcr.SHA256.Size())
	}
	return nil
}

// clone copies what a caller could change.
func (b Boot) clone() Boot {
	b.Firmware = slices.Clone(b.Firmware)
	b.Composites = slices.Clone(b.Composites)
	for i, c := range b.Composites {
		b.Composites[i].PCRs = slices.Clone(c.PCRs)
	}
	if b.SecureBoot != nil {
		p := *b.SecureBoot
		p.PK, p.KEK, p.DB, p.MinimumDBX = slices.Clone(p.PK), slices.Clone(p.KEK), slices.Clone(p.DB), slices.Clone(p.MinimumDBX)
		b.SecureBoot = &p
	}
	pcrs := make(map[int]Reference, len(b.PCRs))
	for n, r := range b.PCRs {
		r.Values, r.Rules, r.UserEvents = slices.Clone(r.Values), slices.Clone(r.Rules), slices.Clone(r.UserEvents)
		for i, v := range r.Values {
			r.Values[i].Events = slices.Clone(v.Events)
		}
		for i, rule := range r.Rules {
			r.Rules[i].Digests = slices.Clone(rule.Digests)
		}
		pcrs[n] = r
	}
	b.PCRs = pcrs
	return b
}
