package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// measured is an event before it is written: digests are of what was hashed,
// which is the data unless of says otherwise.
type measured struct {
	pcr   uint32
	kind  eventlog.EventType
	data  []byte
	of    []byte
	zero  bool            // digests of zeros, as EV_NO_ACTION has
	banks []pcr.Algorithm // nil: those of the log
}

// unknownAlgorithm is SHA3-256, which this build does not compute as a bank.
const unknownAlgorithm, unknownSize = pcr.Algorithm(0x0027), 32

// builder writes logs as firmware does.
type builder struct {
	banks  []pcr.Algorithm
	vendor []byte
	sizes  []int // of the header, nil: the true ones
}

func (b builder) size(i int) int {
	switch {
	case b.sizes != nil:
		return b.sizes[i]
	case b.banks[i] == unknownAlgorithm:
		return unknownSize
	}
	return b.banks[i].Size()
}

func (b builder) header() []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 105, 2)
	spec = le.AppendUint32(spec, uint32(len(b.banks)))
	for i, a := range b.banks {
		spec = le.AppendUint16(le.AppendUint16(spec, uint16(a)), uint16(b.size(i)))
	}
	spec = append(append(spec, byte(len(b.vendor))), b.vendor...)
	return sha1Event(0, eventlog.EVNoAction, make([]byte, 20), spec)
}

func sha1Event(index uint32, kind eventlog.EventType, digest, data []byte) []byte {
	le := binary.LittleEndian
	e := le.AppendUint32(le.AppendUint32(nil, index), uint32(kind))
	return append(le.AppendUint32(append(e, digest...), uint32(len(data))), data...)
}

func (b builder) event(m measured) []byte {
	le := binary.LittleEndian
	banks := m.banks
	if banks == nil {
		banks = b.banks
	}
	e := le.AppendUint32(le.AppendUint32(nil, m.pcr), uint32(m.kind))
	e = le.AppendUint32(e, uint32(len(banks)))
	for _, a := range banks {
		e = append(le.AppendUint16(e, uint16(a)), m.digest(a)...)
	}
	return append(le.AppendUint32(e, uint32(len(m.data))), m.data...)
}

func (m measured) digest(a pcr.Algorithm) []byte {
	of := m.data
	if m.of != nil {
		of = m.of
	}
	switch {
	case a == unknownAlgorithm:
		return bytes.Repeat([]byte{7}, unknownSize)
	case m.zero:
		return make([]byte, a.Size())
	}
	return a.Sum(of)
}

func (b builder) log(events ...measured) []byte {
	out := b.header()
	for _, e := range events {
		out = append(out, b.event(e)...)
	}
	return out
}

// sha1Log writes a log of the old form without a Spec ID.
func sha1Log(events ...measured) []byte {
	var out []byte
	for _, e := range events {
		out = append(out, sha1Event(e.pcr, e.kind, e.digest(pcr.SHA1), e.data)...)
	}
	return out
}

var both = builder{banks: []pcr.Algorithm{pcr.SHA1, pcr.SHA256}}

func separator(index uint32) measured {
	return measured{pcr: index, kind: eventlog.EVSeparator, data: []byte{0, 0, 0, 0}}
}

func locality(l byte, padding int) measured {
	data := append([]byte("StartupLocality\x00"), l)
	return measured{kind: eventlog.EVNoAction, zero: true, data: append(data, make([]byte, padding)...)}
}

func action(index uint32, text string) measured {
	return measured{pcr: index, kind: eventlog.EVEFIAction, data: []byte(text)}
}

// boot is a short boot that keeps all rules.
func boot(more ...measured) []measured {
	events := append([]measured{
		{pcr: 0, kind: eventlog.EVSCRTMVersion, data: []byte("1\x00.\x000\x00\x00\x00")},
		action(4, "Calling EFI Application from Boot Option"),
	}, more...)
	for i := range uint32(8) {
		events = append(events, separator(i))
	}
	return events
}

func mustParse(t *testing.T, b []byte) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func kinds(log *eventlog.Log) []eventlog.AnomalyKind {
	var list []eventlog.AnomalyKind
	for _, a := range log.Anomalies {
		list = append(list, a.Kind)
	}
	return list
}

func wantKinds(t *testing.T, log *eventlog.Log, want ...eventlog.AnomalyKind) {
	t.Helper()
	if got := kinds(log); !slices.Equal(got, want) {
		t.Errorf("anomalies %v, want %v", log.Anomalies, want)
	}
}

func value(t *testing.T, log *eventlog.Log, a pcr.Algorithm, index int) pcr.Digest {
	t.Helper()
	bank, err := log.Replay(a)
	if err != nil {
		t.Fatal(err)
	}
	return bank.Value(index)
}

// extend computes a register from what was hashed.
func extend(a pcr.Algorithm, start pcr.Digest, hashed ...[]byte) pcr.Digest {
	for _, h := range hashed {
		start = a.Sum(append(bytes.Clone(start), a.Sum(h)...))
	}
	return start
}
