package profile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ward/internal/format/pcr"
	"ward/internal/trust/release"
)

// Rule says how a board judges one register.
type Rule struct {
	Mode   release.Mode
	Reason string // recorded: why it is not judged
	// Any are the types of events that a register of mode events allows whatever
	// they say; of the others it allows those that were learned.
	Any []string
	// User is what user space extends after the firmware, in order: words, of
	// which the digest is measured, as systemd-pcrphase does with "enter-initrd".
	User []string
}

// DefaultRules is how registers are judged where a board profile says nothing
// else (TCG PC Client Platform Firmware Profile 1.05, section 3.3.4, and the
// Linux TPM PCR registry). Registers that it does not name are not part of a
// manifest.
func DefaultRules() map[int]Rule {
	rules := make(map[int]Rule)
	for _, n := range []int{0, 2, 3, 4, 6, 7, 9, 11, 12} {
		rules[n] = Rule{Mode: release.Exact}
	}
	for n, reason := range map[int]string{
		1:  "varies with boot variables and platform configuration",
		5:  "varies with the partition table and boot attempts",
		8:  "used by boot loaders for their commands",
		10: "grows while the device runs and is judged entry by entry",
		13: "system extensions",
		14: "machine owner keys",
		15: "system identity, extended while the device runs",
	} {
		rules[n] = Rule{Mode: release.Recorded, Reason: reason}
	}
	return rules
}

// RulesOf judges exactly what the profile holds.
func RulesOf(p Profile) map[int]Rule {
	rules := make(map[int]Rule)
	for n := range p.PCRs {
		rules[n] = Rule{Mode: release.Exact}
	}
	return rules
}

func checkRules(rules map[int]Rule) error {
	if len(rules) == 0 {
		return errors.New("no register to learn")
	}
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		r := rules[n]
		switch {
		case n < 0 || n >= pcr.Count:
			return fmt.Errorf("PCR %d: want 0 to %d", n, pcr.Count-1)
		case r.Mode != release.Exact && r.Mode != release.Events && r.Mode != release.Recorded:
			return fmt.Errorf("PCR %d: mode %q, want %q, %q or %q", n, string(r.Mode), release.Exact, release.Events, release.Recorded)
		case r.Mode == release.Recorded && r.Reason == "":
			return fmt.Errorf("PCR %d: reason: is missing", n)
		case r.Mode != release.Events && len(r.Any) > 0:
			return fmt.Errorf("PCR %d: only a register of mode %s allows types of events", n, release.Events)
		case r.Mode == release.Recorded && len(r.User) > 0:
			return fmt.Errorf("PCR %d: a recorded register is not judged and names no events of user space", n)
		}
	}
	return nil
}

// Assemble makes the boot section of a manifest: what each of the profiles
// holds, judged by the rules, with the composite of release.DefaultComposite
// where its registers are exact. All profiles must be of one board.
func Assemble(profiles []Profile, rules map[int]Rule) (release.Boot, error) {
	if len(profiles) == 0 {
		return release.Boot{}, errors.New("assemble boot: no firmware profile")
	}
	if err := checkRules(rules); err != nil {
		return release.Boot{}, fmt.Errorf("assemble boot: %w", err)
	}
	b := release.Boot{Bank: pcr.SHA256.String(), PCRs: make(map[int]release.Reference, len(rules))}
	for _, p := range profiles {
		if p.Board != profiles[0].Board {
			return release.Boot{}, fmt.Errorf("assemble boot: firmware %q is of board %q, %q of board %q", p.Firmware, p.Board, profiles[0].Firmware, profiles[0].Board)
		}
		if slices.Contains(b.Firmware, p.Firmware) {
			return release.Boot{}, fmt.Errorf("assemble boot: two profiles of firmware %q: a name of its own for each", p.Firmware)
		}
		b.Firmware = append(b.Firmware, p.Firmware)
	}
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		ref, err := reference(profiles, n, rules[n])
		if err != nil {
			return release.Boot{}, fmt.Errorf("assemble boot: PCR %d: %w", n, err)
		}
		b.PCRs[n] = ref
	}
	if !slices.ContainsFunc(release.DefaultComposite, func(n int) bool { return b.PCRs[n].Mode != release.Exact }) {
		if err := b.Compose(release.DefaultComposite); err != nil {
			return release.Boot{}, fmt.Errorf("assemble boot: %w", err)
		}
	}
	b.SecureBoot = demands(profiles)
	return b, nil
}

func reference(profiles []Profile, n int, rule Rule) (release.Reference, error) {
	ref := release.Reference{Mode: rule.Mode, Reason: rule.Reason}
	for _, word := range rule.User {
		sum := sha256.Sum256([]byte(word))
		ref.UserEvents = append(ref.UserEvents, release.ReferenceEvent{Type: userEvent, Digest: sum[:], Text: printable(word)})
	}
	if rule.Mode == release.Recorded {
		return ref, nil
	}
	for _, p := range profiles {
		r, ok := p.PCRs[n]
		if !ok {
			return ref, fmt.Errorf("the profile of firmware %q was learned without it: learn it again with this board profile", p.Firmware)
		}
		if rule.Mode == release.Exact {
			ref.Values = append(ref.Values, release.Value{Digest: r.Value, Firmware: p.Firmware, Events: references(r.Events)})
			continue
		}
		ref.Rules = allow(ref.Rules, r.Events, rule.Any)
	}
	if rule.Mode == release.Events {
		for _, kind := range rule.Any {
			ref.Rules = append(ref.Rules, release.EventRule{Type: kind, Any: true})
		}
	}
	return ref, nil
}

// userEvent names the type of events that user space extends (systemd's
// userspace log names none of TCG's).
const userEvent = "user"

// allow adds what was learned to the rules, by type; separators are implied, and
// what is allowed anyway is left out.
func allow(rules []release.EventRule, events []Event, anyway []string) []release.EventRule {
	for _, e := range events {
		if e.Type == typeSeparator || slices.Contains(anyway, e.Type) {
			continue
		}
		i := slices.IndexFunc(rules, func(r release.EventRule) bool { return r.Type == e.Type })
		if i < 0 {
			i = len(rules)
			rules = append(rules, release.EventRule{Type: e.Type})
		}
		if !rules[i].Allows(e.Type, e.Digest, false) {
			rules[i].Digests = append(rules[i].Digests, e.Digest)
		}
	}
	return rules
}
