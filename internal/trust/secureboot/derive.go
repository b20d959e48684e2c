package secureboot

import (
	"bytes"
	"fmt"
	"slices"

	"ward/internal/format/bootevent"
	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// register holds the measurements of Secure Boot (Firmware Profile, 3.3.4.8).
const register = 7

// Derive tells how Secure Boot stood from the events of one bank. Whether that
// bank's PCR 7 holds what these events give is for the caller to know: deleted
// events are found by that and by nothing else. What is checked:
//
//  1. The log has digests of the bank, and this build can compute them.
//  2. Of PCR 7's events each counts that extended this bank, in the log's order.
//     What an event is called counts nowhere: an attacker may call it anything.
//  3. There is exactly one separator, told by its digest, and it reports no
//     error. Who comes behind the firmware can add events, never before it. A log
//     that was cut before it, or that holds two, shows nothing.
//  4. Before the separator every event's data hash to its digest in this bank:
//     else it might hide that Secure Boot was off, and nothing is known.
//  5. A variable counts under its name and its vendor's GUID.
//  6. Each variable counts once. One that is measured twice, or again behind the
//     separator, is not known.
//  7. Its value has the form that the specification gives it.
//  8. An authority is one certificate or hash that hashes to its event's digest;
//     before the separator it let a driver start.
//  9. Shim's variables count behind the separator.
func Derive(log *eventlog.Log, bank pcr.Algorithm) State {
	d := deriver{seen: make(map[string]bool)}
	if log == nil || bank.Size() == 0 || !slices.ContainsFunc(log.Algorithms, func(a eventlog.AlgorithmSize) bool { return a.Algorithm == bank }) {
		d.problem(-1, "the event log has no digests of bank %s", bank)
		return d.State
	}
	var events []eventlog.Event
	for _, e := range log.Events {
		if digest, ok := e.Digest(bank); ok && e.PCR == register && e.Extends() {
			e.Digests = []eventlog.TaggedDigest{{Algorithm: bank, Digest: digest}}
			events = append(events, e)
		}
	}
	end := d.separator(events)
	if end < 0 {
		return d.State
	}
	values, ok := d.vouched(events[:end])
	if !ok {
		return d.State
	}
	for i, e := range events[:end] {
		d.before(e, values[i])
	}
	for _, e := range events[end+1:] {
		d.behind(e)
	}
	d.setupMode()
	return d.State
}

type deriver struct {
	State
	seen map[string]bool // variables, by name and vendor
}

func (d *deriver) problem(event int, format string, args ...any) {
	if len(d.Problems) < maxProblems {
		d.Problems = append(d.Problems, Problem{event, fmt.Sprintf(format, args...)})
	}
}

// maxProblems bounds what is said about a log that was made to be wrong.
const maxProblems = 32

// separator returns the place of the one separator, -1 where nothing can be
// known.
func (d *deriver) separator(events []eventlog.Event) int {
	at := -1
	for i, e := range events {
		switch e.Separator() {
		case eventlog.SeparatorOther:
			continue
		case eventlog.SeparatorFailure:
			d.problem(e.Index, "the firmware reports an error in PCR 7")
			return -1
		}
		if at >= 0 {
			d.problem(e.Index, "PCR 7 has a second separator")
			return -1
		}
		at = i
	}
	if at < 0 {
		d.problem(-1, "PCR 7 has no separator")
	}
	return at
}

// vouched decodes events, and tells whether every one says what was measured.
func (d *deriver) vouched(events []eventlog.Event) (values []bootevent.Value, ok bool) {
	ok = true
	values = make([]bootevent.Value, 0, len(events))
	for _, e := range events {
		decoded := decode(e)
		if decoded.Measured != bootevent.Whole {
			d.problem(e.Index, "an event before PCR 7's separator does not hash to its digest")
			ok = false
		}
		values = append(values, decoded.Value)
	}
	return values, ok
}

// decode reads an event by its bytes, whatever it is called; the form of
// authorities is the widest.
func decode(e eventlog.Event) bootevent.Decoded {
	e.Type = eventlog.EVEFIVariableAuth
	return bootevent.Decode(e)
}

// debugMode is the action that a firmware measures when it may be debugged
// (Firmware Profile, 3.3.4.8).
var debugMode = []byte("UEFI Debug Mode")

// before takes what the firmware measured of its configuration.
func (d *deriver) before(e eventlog.Event, value bootevent.Value) {
	v, ok := value.(bootevent.Variable)
	if !ok {
		if bytes.Equal(bytes.TrimRight(e.Data, "\x00"), debugMode) {
			d.Debugger = Switch{true, true, e.Index}
		}
		return
	}
	s, k := d.part(v)
	switch {
	case s != nil:
		d.take(e, v, func() bool {
			on, ok := truth(v.Data)
			if ok {
				*s = Switch{true, on, e.Index}
			}
			return ok
		}, func() { *s = Switch{} })
	case k != nil && isAuthority(v):
		d.authority(e, v, true)
	case k != nil:
		d.take(e, v, func() bool {
			keys, err := v.Keys()
			if err == nil {
				*k = Keys{true, e.Index, keys}
			}
			return err == nil
		}, func() { *k = Keys{} })
	}
}

// behind takes what was measured once the firmware had handed over.
func (d *deriver) behind(e eventlog.Event) {
	decoded := decode(e)
	if decoded.Measured != bootevent.Whole {
		d.Unexplained = append(d.Unexplained, e.Index)
		return
	}
	v, ok := decoded.Value.(bootevent.Variable)
	if !ok {
		return
	}
	s, k := d.part(v)
	switch {
	case v.Vendor == efi.Shim:
		d.shim(e, v)
	case s != nil:
		*s = Switch{}
		d.problem(e.Index, "%s was measured behind PCR 7's separator", v.Name)
	case k != nil && !isAuthority(v):
		*k = Keys{}
		d.problem(e.Index, "%s was measured behind PCR 7's separator", v.Name)
	case k != nil:
		d.authority(e, v, false)
	}
}

// part is where a variable of the firmware belongs; both are nil for others.
func (d *deriver) part(v bootevent.Variable) (*Switch, *Keys) {
	switch v.Vendor {
	case efi.GlobalVariable:
		switch v.Name {
		case "SecureBoot":
			return &d.Enabled, nil
		case "SetupMode":
			return &d.SetupMode, nil
		case "AuditMode":
			return &d.AuditMode, nil
		case "DeployedMode":
			return &d.DeployedMode, nil
		case "PK":
			return nil, &d.PK
		case "KEK":
			return nil, &d.KEK
		}
	case efi.ImageSecurity:
		switch v.Name {
		case "db":
			return nil, &d.DB
		case "dbx":
			return nil, &d.DBX
		case "dbt":
			return nil, &d.DBT
		case "dbr":
			return nil, &d.DBR
		}
	}
	return nil, nil
}

// take keeps a variable's value if it is the first; a second makes it unknown.
func (d *deriver) take(e eventlog.Event, v bootevent.Variable, keep func() bool, forget func()) {
	name := v.Vendor.String() + v.Name
	if d.seen[name] {
		forget()
		d.problem(e.Index, "%s was measured twice", v.Name)
		return
	}
	d.seen[name] = true
	if !keep() {
		d.problem(e.Index, "%s holds %d bytes that are no value of it", v.Name, len(v.Data))
	}
}

// truth reads a variable of one byte. One that does not exist is measured
// without a value, and then it is off (UEFI 3.3).
func truth(b []byte) (on, ok bool) {
	switch {
	case len(b) == 0:
		return false, true
	case len(b) == 1 && b[0] <= 1:
		return b[0] == 1, true
	}
	return false, false
}

// isAuthority tells one key from signature lists by its form: no bytes are both.
func isAuthority(v bootevent.Variable) bool {
	if _, err := efi.ParseSignatureLists(v.Data); err == nil {
		return false
	}
	_, one := v.AuthorityKey()
	return one
}

func (d *deriver) authority(e eventlog.Event, v bootevent.Variable, driver bool) {
	k, _ := v.AuthorityKey()
	d.Authorities = append(d.Authorities, Authority{e.Index, v.Name, driver, k})
}

// shim takes what shim measured: its own state, and the keys by which it let
// images start.
func (d *deriver) shim(e eventlog.Event, v bootevent.Variable) {
	s := map[string]*Switch{"MokSBState": &d.Shim.Insecure, "MokListTrusted": &d.Shim.ListTrusted}[v.Name]
	switch {
	case s != nil:
		d.take(e, v, func() bool {
			on, ok := truth(v.Data)
			if ok {
				*s = Switch{true, on, e.Index}
			}
			return ok
		}, func() { *s = Switch{} })
	case v.Name == "SbatLevel":
		d.take(e, v, func() bool {
			date, ok := parseSBAT(v.Data)
			if ok {
				d.Shim.SBAT = SBAT{true, e.Index, date}
			}
			return ok
		}, func() { d.Shim.SBAT = SBAT{} })
	default:
		if _, ok := v.AuthorityKey(); ok {
			d.authority(e, v, false)
		}
	}
}

// setupMode follows from PK: without one the firmware is in setup mode, whatever
// a variable of that name says (UEFI 32.3).
func (d *deriver) setupMode() {
	if d.PK.Measured && (len(d.PK.Keys) == 0 || !d.SetupMode.Measured) {
		d.SetupMode = Switch{true, len(d.PK.Keys) == 0, d.PK.Event}
	}
}
