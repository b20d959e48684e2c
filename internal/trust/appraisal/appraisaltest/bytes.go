package appraisaltest

import (
	"crypto/sha256"
	"encoding/binary"

	"ward/internal/format/eventlog"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

// Event is an event to be written; a nil Digest is the hash of the data.
type Event struct {
	PCR    int
	Type   eventlog.EventType
	Data   []byte
	Digest []byte
}

// Text is an event whose data are a text that hashes to the digest.
func Text(pcr int, kind eventlog.EventType, text string) Event {
	return Event{PCR: pcr, Type: kind, Data: []byte(text)}
}

// Separators are those of PCR 0 to 7.
func Separators() []Event {
	var events []Event
	for i := range 8 {
		events = append(events, Event{PCR: i, Type: eventlog.EVSeparator, Data: make([]byte, 4)})
	}
	return events
}

// Locality states the locality at which the TPM was started.
func Locality(l byte) Event {
	return Event{PCR: 0, Type: eventlog.EVNoAction, Data: append([]byte("StartupLocality\x00"), l), Digest: make([]byte, 32)}
}

// Events are those of a short, honest boot: firmware, Secure Boot, a unified
// kernel image with its command line.
func Events() []Event {
	events := []Event{
		Locality(3),
		Text(0, eventlog.EVSCRTMVersion, "v\x001\x00\x00\x00"),
		{PCR: 0, Type: eventlog.EVEFIFirmwareBlob, Data: make([]byte, 16), Digest: digest("firmware volume")},
		Text(7, eventlog.EVEFIVariableConfig, "SecureBoot"),
		Text(4, eventlog.EVEFIAction, "Calling EFI Application from Boot Option"),
	}
	events = append(events, Separators()...)
	return append(events,
		Event{PCR: 4, Type: eventlog.EVEFIBootApplication, Data: make([]byte, 40), Digest: digest("unified image")},
		Event{PCR: 11, Type: eventlog.EVIPL, Data: []byte(".linux"), Digest: digest("kernel")},
		Event{PCR: 11, Type: eventlog.EVIPL, Data: []byte(".cmdline"), Digest: digest("quiet")},
		Event{PCR: 11, Type: eventlog.EVIPL, Data: []byte(".initrd"), Digest: digest("initramfs")},
		Text(9, eventlog.EVEventTag, "load options"),
	)
}

func digest(s string) []byte {
	d := sha256.Sum256([]byte(s))
	return d[:]
}

// Log writes events as a crypto-agile log of the sha256 bank, header first.
func Log(events ...Event) []byte {
	spec := []byte("Spec ID Event03\x00")
	spec = append(spec, 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0)
	spec = le.AppendUint16(spec, uint16(pcr.SHA256))
	spec = append(le.AppendUint16(spec, 32), 0)
	log := le.AppendUint32(le.AppendUint32(nil, 0), uint32(eventlog.EVNoAction))
	log = append(log, make([]byte, 20)...)
	log = append(le.AppendUint32(log, uint32(len(spec))), spec...)
	for _, e := range events {
		log = append(log, e.Bytes()...)
	}
	return log
}

// Bytes writes one event.
func (e Event) Bytes() []byte {
	d := e.Digest
	if d == nil {
		sum := sha256.Sum256(e.Data)
		d = sum[:]
	}
	b := le.AppendUint32(le.AppendUint32(nil, uint32(e.PCR)), uint32(e.Type))
	b = le.AppendUint16(le.AppendUint32(b, 1), uint16(pcr.SHA256))
	b = le.AppendUint32(append(b, d...), uint32(len(e.Data)))
	return append(b, e.Data...)
}

var le = binary.LittleEndian

// Measured is an entry of an IMA list to be written.
type Measured struct {
	Path      string
	Digest    [32]byte
	Violation bool
	Buffer    []byte // makes it an entry of the template ima-buf
}

// Program is a file whose content is its own path.
func Program(path string) Measured { return Measured{Path: path, Digest: sha256.Sum256([]byte(path))} }

// Aggregate is the first entry of every list.
func Aggregate(values pcr.Values) Measured {
	return Measured{Path: "boot_aggregate", Digest: [32]byte(ima.BootAggregate(pcr.SHA256, values))}
}

// List writes entries as a binary list, templates ima-ng and ima-buf.
func List(entries ...Measured) []byte {
	var list []byte
	for _, m := range entries {
		list = append(list, m.Bytes()...)
	}
	return list
}

// Bytes writes one entry with the SHA-1 template hash of the common list.
func (m Measured) Bytes() []byte { return m.bytes(pcr.SHA1) }

// PerBank writes one entry as the sha256 bank's own list of newer kernels does.
func (m Measured) PerBank() []byte { return m.bytes(pcr.SHA256) }

func (m Measured) bytes(bank pcr.Algorithm) []byte {
	template := "ima-ng"
	fields := [][]byte{append([]byte("sha256:\x00"), m.Digest[:]...), append([]byte(m.Path), 0)}
	if m.Buffer != nil {
		template = "ima-buf"
		fields = append(fields, m.Buffer)
	}
	var data []byte
	for _, f := range fields {
		data = append(le.AppendUint32(data, uint32(len(f))), f...)
	}
	hash := bank.Sum(data)
	if m.Violation {
		hash = make(pcr.Digest, bank.Size())
	}
	b := append(le.AppendUint32(nil, ima.Register), hash...)
	b = append(le.AppendUint32(b, uint32(len(template))), template...)
	return append(le.AppendUint32(b, uint32(len(data))), data...)
}
