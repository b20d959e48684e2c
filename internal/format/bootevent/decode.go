// Package bootevent says what the events of a firmware's log state: values for
// policies and text for people, by event type (TCG PC Client Platform Firmware
// Profile 1.06, section 10; UEFI 2.10; what shim, GRUB, systemd, the kernel,
// U-Boot and Trusted Firmware-A add). Whether a digest vouches for what an event
// states is found by hashing, for each field apart; what nothing vouches for is
// untrusted, and marked so.
package bootevent

import (
	"bytes"
	"encoding/json"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// Decoded is what an event states about itself.
type Decoded struct {
	Measured Measured
	Value    Value
}

// Measured says what an event's digests are of.
type Measured uint8

// What digests are of.
const (
	Nothing   Measured = iota // the event extends nothing, or no digest of it can be computed here
	Elsewhere                 // something that is not in the event: an image, a volume, a file
	Part                      // what the event states without its label: a variable's value, a command; it is read as the label says
	Whole                     // all that the event states
)

var measuredNames = [...]string{Nothing: "nothing", Elsewhere: "elsewhere", Part: "part", Whole: "whole"}

func (m Measured) String() string { return measuredNames[m] }

// MarshalText writes the name.
func (m Measured) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Value is an event's statement: one of Separator, Header, Locality, Manifest,
// Variable, Image, Firmware, Tables, Partitions, Tag, Command, Label, Device,
// Text and Bytes.
type Value interface {
	// Kind names the type, "variable".
	Kind() string
	// statement is the value in a few words; it may hold anything.
	statement() string
	// fields lists all that is known.
	fields(m Measured) []Field
}

// Field is one part of a statement. Value is a string, a number, a truth value,
// a digest, or a list of such or of objects.
type Field struct {
	Name      string `json:"name"`
	Value     any    `json:"value"`
	Untrusted bool   `json:"untrusted,omitempty"` // no digest of the event vouches for it
}

// Fields lists every part of the statement with what vouches for it. It reads
// certificates, and so costs more than Decode.
func (d Decoded) Fields() []Field { return d.Value.fields(d.Measured) }

// MarshalJSON writes kind, measured and fields.
func (d Decoded) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind     string   `json:"kind"`
		Measured Measured `json:"measured"`
		Fields   []Field  `json:"fields"`
	}{d.Value.Kind(), d.Measured, d.Fields()})
}

// vouched marks fields: those of the label, in front, need the whole statement
// to be measured, the others at least a part of it.
func (m Measured) label(name string, v any) Field { return Field{name, v, m < Whole} }
func (m Measured) field(name string, v any) Field { return Field{name, v, m < Part} }

// Decode reads an event. Every digest that can be computed here must agree, so
// that one of another bank cannot lend its trust; a policy about one bank gives
// an event with that bank's digest alone. Bytes that are not what the event's
// type demands are Text or Bytes. Memory is bounded by 128 bytes for each byte
// of the event's data, and that of Fields too.
func Decode(e eventlog.Event) Decoded {
	switch e.Type {
	case eventlog.EVSeparator:
		return separator(e)
	case eventlog.EVNoAction:
		return Decoded{Nothing, noAction(e.Data)}
	case eventlog.EVEFIVariableConfig, eventlog.EVEFIVariableBoot, eventlog.EVEFIVariableBoot2, eventlog.EVEFIVariableAuth,
		eventlog.EVEFISPDMPolicy, eventlog.EVEFISPDMAuthority:
		return variable(e)
	case eventlog.EVEFIBootApplication, eventlog.EVEFIBootDriver, eventlog.EVEFIRuntimeDriver:
		return elsewhere(e, image(e.Data))
	case eventlog.EVEFIFirmwareBlob, eventlog.EVSCRTMContents, eventlog.EVPostCode, eventlog.EVNonhostCode:
		return elsewhere(e, firmware(e.Data, false))
	case eventlog.EVEFIFirmwareBlob2, eventlog.EVPostCode2:
		return elsewhere(e, firmware(e.Data, true))
	case eventlog.EVCPUMicrocode, eventlog.EVEFIHCRTM:
		return elsewhere(e, Label{What: labelOf(e.Type), Name: content(e.Data)})
	case eventlog.EVEFISPDMBlob, eventlog.EVEFISPDMConfig:
		return byHash(e, device(e.Data))
	case eventlog.EVEFIHandoffTables:
		return byHash(e, tables(e.Data, false))
	case eventlog.EVEFIHandoffTables2:
		return byHash(e, tables(e.Data, true))
	case eventlog.EVEFIGPT, eventlog.EVEFIGPT2:
		return byHash(e, partitions(e.Data))
	case eventlog.EVEventTag:
		return tagged(e)
	case eventlog.EVIPL:
		return loader(e)
	case eventlog.EVCompactHash, eventlog.EVTableOfDevices, eventlog.EVPlatformConfig:
		return uboot(e)
	}
	return byHash(e, plain(e.Type, e.Data))
}

// elsewhere is an event whose type defines its digest to be of something that is
// not in the log. Data that hash to the digest all the same vouch for nothing:
// then no image was measured, and an event was made up.
func elsewhere(e eventlog.Event, v Value) Decoded {
	if !e.Extends() {
		return Decoded{Nothing, v}
	}
	return Decoded{Elsewhere, v}
}

// byHash is an event whose digest is of its data, or else of something that is
// not in the log.
func byHash(e eventlog.Event, v Value) Decoded {
	return Decoded{measured(e, e.Data), v}
}

// measured tells whether the event's digests are of these bytes, each in turn
// alone; it is Whole where the first are those, Part where another.
func measured(e eventlog.Event, whole []byte, parts ...[]byte) Measured {
	switch computable := hashes(e, whole); {
	case !e.Extends() || computable == unknown:
		return Nothing
	case computable == agrees:
		return Whole
	}
	for _, p := range parts {
		if hashes(e, p) == agrees {
			return Part
		}
	}
	return Elsewhere
}

type agreement uint8

const (
	unknown agreement = iota // no digest can be computed here
	differs
	agrees
)

// hashes compares the digests of an event with those of bytes.
func hashes(e eventlog.Event, b []byte) agreement {
	var sum [maxDigest]byte
	result := unknown
	for _, d := range e.Digests {
		if d.Algorithm.Size() == 0 {
			continue
		}
		if !bytes.Equal(d.Algorithm.AppendSum(sum[:0], b), d.Digest) {
			return differs
		}
		result = agrees
	}
	return result
}

// maxDigest is the length of the longest digest that can be computed, SHA-512's.
const maxDigest = 64

// digestOf is a digest as fields show it.
func digestOf(b []byte) pcr.Digest { return pcr.SHA256.Sum(b) }
