package release

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// Rule says how a board judges one register.
type Rule struct {
	Mode   Mode
	Reason string // recorded: why it is not judged
}

// DefaultRules is how registers are judged where a board profile says nothing
// else (TCG PC Client Platform Firmware Profile 1.05, section 3.3.4, and the
// Linux TPM PCR registry). Registers that it does not name are not part of a
// manifest.
func DefaultRules() map[int]Rule {
	rules := make(map[int]Rule)
	for _, n := range []int{0, 2, 3, 4, 6, 7, 9, 11, 12} {
		rules[n] = Rule{Mode: Exact}
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
		rules[n] = Rule{Mode: Recorded, Reason: reason}
	}
	return rules
}

// Learn takes the reference values of a boot from its event log and, if they
// were read, the registers of the same boot (nil: not read; a register that is
// not in a non-nil measured was never extended). Every exact register must be
// explained by the log: a log that replays to another value than the register
// holds cannot be learned from, and the error names each such register. An
// exact register without events is learned at its reset value.
func Learn(log *eventlog.Log, measured pcr.Values, rules map[int]Rule) (Boot, error) {
	if err := learnable(log, rules); err != nil {
		return Boot{}, fmt.Errorf("learn boot: %w", err)
	}
	bank, err := log.Replay(pcr.SHA256)
	if err != nil {
		return Boot{}, fmt.Errorf("learn boot: %w", err)
	}
	boot := Boot{Bank: pcr.SHA256.String(), PCRs: make(map[int]Reference, len(rules))}
	var unexplained []string
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		rule := rules[n]
		ref := Reference{Mode: rule.Mode, Reason: rule.Reason}
		if rule.Mode == Exact {
			if held, ok := explained(bank, measured, n); !ok {
				unexplained = append(unexplained, fmt.Sprintf("PCR %d (log %s, TPM %s)", n, bank.Value(n), held))
			}
			ref.Values = []pcr.Digest{bank.Value(n)}
			ref.Events = referenceEvents(log, n)
		}
		if err := ref.check(); err != nil {
			return Boot{}, fmt.Errorf("learn boot: PCR %d: %w", n, err)
		}
		boot.PCRs[n] = ref
	}
	if len(unexplained) > 0 {
		return Boot{}, fmt.Errorf("learn boot: the event log does not explain %s: take log and registers from the same boot, or record what the firmware does not log",
			strings.Join(unexplained, ", "))
	}
	return boot, nil
}

// learnable refuses logs that are not whole and boots that went wrong.
func learnable(log *eventlog.Log, rules map[int]Rule) error {
	if len(rules) == 0 {
		return errors.New("no register to learn")
	}
	for n := range rules {
		if n < 0 || n >= pcr.Count {
			return fmt.Errorf("PCR %d: want 0 to %d", n, pcr.Count-1)
		}
	}
	for _, a := range log.Anomalies {
		switch a.Kind {
		case eventlog.Truncated, eventlog.TrailingData, eventlog.Malformed:
			return fmt.Errorf("the event log cannot be read beyond offset %d (%s): learn from a whole one", a.Offset, a.Kind)
		case eventlog.SeparatorError:
			if rules[a.PCR].Mode == Exact {
				return fmt.Errorf("the firmware reports an error in PCR %d at offset %d: learn from a boot without one", a.PCR, a.Offset)
			}
		}
	}
	return nil
}

// explained tells whether the log gives what the TPM held, and what that was.
func explained(bank *pcr.Bank, measured pcr.Values, n int) (held string, ok bool) {
	if measured == nil {
		return "", true
	}
	value, read := measured[n]
	if !read {
		return "never extended", !bank.Extended(n)
	}
	return value.String(), bytes.Equal(value, bank.Value(n))
}

// referenceEvents lists the events that were extended into a register.
func referenceEvents(log *eventlog.Log, n int) []ReferenceEvent {
	var events []ReferenceEvent
	for _, e := range log.Events {
		if e.PCR != n || e.Type == eventlog.EVNoAction {
			continue
		}
		if d, ok := e.Digest(pcr.SHA256); ok {
			events = append(events, ReferenceEvent{Type: e.Type.String(), Digest: d, Text: printable(bootevent.Describe(e))})
		}
	}
	return events
}

// printable bounds a description and takes out what a manifest refuses.
func printable(s string) string {
	const longest = 200
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}
