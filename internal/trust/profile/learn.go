package profile

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
	"ward/internal/trust/release"
)

// Golden is a boot to learn from.
type Golden struct {
	Log *eventlog.Log
	// PCRs are the registers of the same boot; nil: they were not read. A
	// register that is not in a non-nil map was never extended.
	PCRs     pcr.Values
	Board    string
	Firmware string // its name in manifests; empty: the version that it states
}

// Learn takes what a firmware measures from a golden boot. Every register that
// the rules judge must be explained by the log: a log that replays to another
// value than the register holds cannot be learned from, and the error names
// each such register. A judged register without events is learned at its reset
// value.
func Learn(g Golden, rules map[int]Rule) (Profile, error) {
	if err := learnable(g.Log, rules); err != nil {
		return Profile{}, fmt.Errorf("learn boot: %w", err)
	}
	bank, err := g.Log.Replay(pcr.SHA256)
	if err != nil {
		return Profile{}, fmt.Errorf("learn boot: %w", err)
	}
	p := Profile{
		Schema: SchemaVersion, Board: g.Board, Firmware: g.Firmware, Version: firmwareVersion(g.Log), Bank: pcr.SHA256.String(),
		BootPhase: bootPhase(g.Log), PCRs: make(map[int]Register),
	}
	if g.Log.StartupLocality != nil {
		p.Locality = *g.Log.StartupLocality
	}
	if p.Firmware == "" {
		p.Firmware = p.Version
	}
	if p.Firmware == "" {
		return Profile{}, errors.New("learn boot: the firmware states no version of its own: give it a name (learn --firmware NAME)")
	}
	var unexplained []string
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		if rules[n].Mode == release.Recorded {
			continue
		}
		if held, ok := explained(bank, g.PCRs, n); !ok {
			unexplained = append(unexplained, fmt.Sprintf("PCR %d (log %s, TPM %s)", n, bank.Value(n), held))
		}
		p.PCRs[n] = Register{Value: bank.Value(n), Events: learnEvents(g.Log, n)}
	}
	if len(unexplained) > 0 {
		return Profile{}, fmt.Errorf("learn boot: the event log does not explain %s: take log and registers from the same boot, or record what the firmware does not log",
			strings.Join(unexplained, ", "))
	}
	if err := p.check(); err != nil {
		return Profile{}, fmt.Errorf("learn boot: %w", err)
	}
	return p, nil
}

// learnable refuses logs that are not whole and boots that went wrong.
func learnable(log *eventlog.Log, rules map[int]Rule) error {
	if err := checkRules(rules); err != nil {
		return err
	}
	for _, a := range log.Anomalies {
		switch a.Kind {
		case eventlog.Truncated, eventlog.TrailingData, eventlog.Malformed:
			return fmt.Errorf("the event log cannot be read beyond offset %d (%s): learn from a whole one", a.Offset, a.Kind)
		case eventlog.SeparatorError:
			if r, ok := rules[a.PCR]; ok && r.Mode != release.Recorded {
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

// learnEvents lists the events that were extended into a register.
func learnEvents(log *eventlog.Log, n int) []Event {
	var events []Event
	for _, e := range log.Events {
		if e.PCR != n || !e.Extends() {
			continue
		}
		d, ok := e.Digest(pcr.SHA256)
		if !ok {
			continue
		}
		learned := Event{Index: e.Index, Type: e.Type.String(), Digest: slices.Clone(d), Text: printable(bootevent.Describe(e))}
		if predictable(e) && e.Rehashes(pcr.SHA256) {
			learned.Data = slices.Clone(e.Data)
		}
		events = append(events, learned)
	}
	return events
}

// predictable tells events whose data a prediction needs.
func predictable(e eventlog.Event) bool {
	switch e.Type {
	case eventlog.EVEFIVariableConfig, eventlog.EVEFIVariableAuth:
		return e.PCR == secureBootRegister
	case eventlog.EVEFIAction:
		return e.PCR == bootRegister
	}
	return false
}

// firmwareVersion is what the firmware says of itself (Firmware Profile, 3.3.4.1,
// EV_S_CRTM_VERSION); empty: nothing that hashes to its digest.
func firmwareVersion(log *eventlog.Log) string {
	for _, e := range log.Events {
		if e.PCR == 0 && e.Type == eventlog.EVSCRTMVersion && e.Rehashes(pcr.SHA256) && len(bytes.Trim(e.Data, "\x00")) > 0 {
			text := printable(bootevent.Describe(e))
			return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
		}
	}
	return ""
}

// bootPhase finds the separator of PCR 4 (Firmware Profile, 3.3.4.5: the firmware
// writes it before the first boot attempt); without one all is of the boot phase.
func bootPhase(log *eventlog.Log) int {
	for _, e := range log.Events {
		if e.PCR == bootRegister && e.Type == eventlog.EVSeparator {
			return e.Index
		}
	}
	return 0
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
