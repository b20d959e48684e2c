package secureboot

import (
	"bytes"
	"fmt"
	"slices"

	"ward/internal/format/bootevent"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
)

// maxFindings bounds the findings about the keys of one variable; more are
// counted in the last one's words.
const maxFindings = 8

// demands tells whether a policy demands anything.
func (p Policy) demands() bool {
	return p.Required || p.Deployed || len(p.PK)+len(p.KEK)+len(p.DB)+len(p.MinimumDBX) > 0 || p.MinimumSBAT != ""
}

// Judge compares the state with what a release demands. A part that is demanded
// and not known is a finding, never a pass. What is checked, in this order:
// Secure Boot is on, its mode (no setup, audit or debugging, shim verifies),
// deployed mode, the keys of PK, KEK and db, the hashes of dbx, shim's SBAT
// level.
func Judge(s State, p Policy) []finding.Finding {
	if !p.demands() {
		return nil
	}
	j := judge{}
	for _, problem := range s.Problems {
		j.find(finding.SecureBootUnknown, problem.Event, problem.Detail, "", "")
	}
	if p.Required {
		j.want(finding.SecureBootOff, "Secure Boot", s.Enabled, true)
		j.want(finding.SecureBootMode, "setup mode", s.SetupMode, false)
		j.refuse("audit mode", s.AuditMode)
		j.refuse("the firmware's debugger", s.Debugger)
		if j.refuse("shim's switch to verify nothing", s.Shim.Insecure) {
			j.found[len(j.found)-1].Severity = finding.Critical
		}
	}
	if p.Deployed {
		j.want(finding.SecureBootMode, "deployed mode", s.DeployedMode, true)
	}
	j.keys("PK", s.PK, p.PK)
	j.keys("KEK", s.KEK, p.KEK)
	j.keys("db", s.DB, p.DB)
	j.dbx(s.DBX, p.MinimumDBX)
	j.sbat(s.Shim.SBAT, p.MinimumSBAT)
	return j.found
}

type judge struct{ found []finding.Finding }

func (j *judge) find(code finding.Code, event int, detail, expected, found string) {
	f := finding.New(code, detail).At(register).Want(expected, found)
	if event >= 0 {
		f = f.AtIndex(event)
	}
	j.found = append(j.found, f)
}

// want demands that something was measured, and is on or off.
func (j *judge) want(code finding.Code, what string, s Switch, on bool) {
	expected := Switch{Measured: true, On: on}.String()
	switch {
	case !s.Measured:
		j.find(finding.SecureBootUnknown, -1, what+" is not known", expected, "unknown")
	case s.On != on:
		j.find(code, s.Event, what+" is "+s.String(), expected, s.String())
	}
}

// refuse demands that something which few measure was not measured to be on.
func (j *judge) refuse(what string, s Switch) bool {
	if !s.Measured || !s.On {
		return false
	}
	j.find(finding.SecureBootMode, s.Event, what+" is on", "off", "on")
	return true
}

// keys demands that a variable holds nothing but accepted keys.
func (j *judge) keys(name string, k Keys, accepted []pcr.Digest) {
	if len(accepted) == 0 {
		return
	}
	if !k.Measured {
		j.find(finding.SecureBootUnknown, -1, name+" is not known", fmt.Sprintf("%d keys at most", len(accepted)), "unknown")
		return
	}
	known := setOf(accepted)
	others := slices.DeleteFunc(slices.Clone(k.Keys), func(key bootevent.Key) bool { return known[entry(key.Digest)] })
	for i, key := range others {
		if i == maxFindings {
			j.found[len(j.found)-1].Detail += fmt.Sprintf("; %d more keys are not listed", len(others)-i)
			break
		}
		j.find(finding.SecureBootKeys, k.Event, name+" holds a key that the release does not name", "", key.List.Name()+" "+key.Digest.String()+named(key))
	}
}

func named(k bootevent.Key) string {
	if c := k.Certificate(); c != nil {
		return " " + bootevent.Printable(c.Subject)
	}
	return ""
}

// dbx demands that the list of revoked software holds at least some entries.
func (j *judge) dbx(k Keys, demanded []pcr.Digest) {
	if len(demanded) == 0 {
		return
	}
	if !k.Measured {
		j.find(finding.SecureBootUnknown, -1, "dbx is not known", fmt.Sprintf("%d entries at least", len(demanded)), "unknown")
		return
	}
	held := make(map[digestEntry]bool, len(k.Keys))
	for _, key := range k.Keys {
		held[entry(key.Digest)] = true
	}
	missing, first := 0, pcr.Digest(nil)
	for _, d := range demanded {
		if !held[entry(d)] {
			if missing++; missing == 1 {
				first = d
			}
		}
	}
	if missing > 0 {
		j.find(finding.SecureBootDBX, k.Event, fmt.Sprintf("dbx lacks %d of %d demanded entries, the first is %s", missing, len(demanded), first),
			fmt.Sprintf("%d entries at least", len(demanded)), fmt.Sprintf("%d entries, %d of them demanded", len(k.Keys), len(demanded)-missing))
	}
}

// sbat demands a level. Dates of equal length compare as texts.
func (j *judge) sbat(s SBAT, least string) {
	switch {
	case least == "":
	case !s.Measured:
		j.find(finding.SecureBootUnknown, -1, "shim's SBAT level is not known", least+" or later", "unknown")
	case !isDate(least) || s.Date < least:
		j.find(finding.SecureBootDBX, s.Event, "shim's SBAT level is too old", least+" or later", s.Date)
	}
}

// PolicyOf is the policy that demands what a state is: the keys that it holds
// and no others, the dbx entries and the SBAT level at least. What the state does
// not know is not demanded.
func PolicyOf(s State) Policy {
	p := Policy{
		Required: s.Enabled.Measured && s.Enabled.On,
		Deployed: s.DeployedMode.Measured && s.DeployedMode.On,
		PK:       digests(s.PK), KEK: digests(s.KEK), DB: digests(s.DB), MinimumDBX: digests(s.DBX),
	}
	if s.Shim.SBAT.Measured {
		p.MinimumSBAT = s.Shim.SBAT.Date
	}
	return p
}

// digestEntry is a digest as a key of a map: its length and bytes.
type digestEntry struct {
	size  int
	bytes [64]byte // the longest digest of a signature list, SHA-512's
}

func entry(d pcr.Digest) digestEntry {
	e := digestEntry{size: len(d)}
	copy(e.bytes[:], d)
	return e
}

func setOf(list []pcr.Digest) map[digestEntry]bool {
	set := make(map[digestEntry]bool, len(list))
	for _, d := range list {
		set[entry(d)] = true
	}
	return set
}

// digests returns the digests of keys, sorted, each once.
func digests(k Keys) []pcr.Digest {
	var list []pcr.Digest
	for _, key := range k.Keys {
		list = append(list, key.Digest)
	}
	slices.SortFunc(list, func(a, b pcr.Digest) int { return bytes.Compare(a, b) })
	return slices.CompactFunc(list, func(a, b pcr.Digest) bool { return bytes.Equal(a, b) })
}
