package ima

import (
	"encoding/binary"

	"ward/internal/format/pcr"
)

// nextBinary reads an entry as ima_measurements_show writes it (ima_fs.c), in
// bytes:
//
//	4          PCR
//	20         template hash (32, 48 or 64 in the lists of other banks)
//	4          length n of the template's name
//	n          template's name
//	4          length m of the template data; not in the template ima
//	m          template data: fields, each of 4 bytes of length and its bytes
//
// In the template ima the data are 20 bytes of digest, 4 of length, the name.
func (d *Decoder) nextBinary(e *Entry) (size int, err error) {
	head := 4 + d.hashSize + 4
	if !d.need(head) {
		return 0, d.ended()
	}
	number := d.uint32(d.buf[d.at:])
	if number >= pcr.Count {
		return 0, d.malformed("it names PCR %d", number)
	}
	nameSize := d.uint32(d.buf[d.at+head-4:])
	if nameSize == 0 || nameSize > MaxTemplateName {
		return 0, d.malformed("its template's name has %d bytes, want 1 to %d", nameSize, MaxTemplateName)
	}
	data := head + int(nameSize) + 4
	if !d.need(head + int(nameSize)) {
		return 0, d.ended()
	}
	l := d.layoutOf(d.buf[d.at+head:][:nameSize])
	if l.name == legacyName {
		return d.legacyBinary(e, l, head+int(nameSize))
	}
	if !d.need(data) {
		return 0, d.ended()
	}
	dataSize := d.uint32(d.buf[d.at+data-4:])
	if dataSize > MaxTemplateData {
		return 0, d.malformed("its template data have %d bytes, at most %d", dataSize, MaxTemplateData)
	}
	size = data + int(dataSize)
	if !d.need(size) {
		return 0, d.ended()
	}
	d.takeHead(e, l)
	e.Data = d.buf[d.at+data : d.at+size : d.at+size]
	if wrong := d.takeFields(e, l); wrong != "" {
		return 0, d.malformed("%s", wrong)
	}
	return size, nil
}

// takeHead fills in what stands before the template data; need was asked.
func (d *Decoder) takeHead(e *Entry, l *layout) {
	e.PCR = int(d.uint32(d.buf[d.at:]))
	e.TemplateHash = d.buf[d.at+4:][:d.hashSize:d.hashSize]
	e.Template = l.name
}

// legacyDigest is the length of the digest in the template ima (IMA_DIGEST_SIZE).
const legacyDigest = 20

// legacyBinary reads the data of the template ima, which begin at data.
func (d *Decoder) legacyBinary(e *Entry, l *layout, data int) (size int, err error) {
	name := data + legacyDigest + 4
	if !d.need(name) {
		return 0, d.ended()
	}
	nameSize := d.uint32(d.buf[d.at+name-4:])
	if nameSize >= maxEventName {
		return 0, d.malformed("its name has %d bytes, at most %d", nameSize, maxEventName-1)
	}
	size = name + int(nameSize)
	if !d.need(size) {
		return 0, d.ended()
	}
	d.takeHead(e, l)
	digest := d.buf[d.at+data:][:legacyDigest:legacyDigest]
	e.Digest = FileDigest{Algorithm: "sha1", Digest: digest}
	e.Path = d.stringOf(d.buf[d.at+name : d.at+size])
	d.scratch = appendLegacy(d.scratch[:0], digest, d.buf[d.at+name:d.at+size])
	e.Data = d.scratch
	return size, nil
}

// uint32 reads an integer of the list. It spares the calls through an interface
// that take a tenth of a replay.
func (d *Decoder) uint32(b []byte) uint32 {
	if d.big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}
