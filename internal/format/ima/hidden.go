package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"ward/internal/format/pcr"
)

// HiddenTemplate is the template of an entry whose path stays on its device. It is
// not the kernel's: a device puts it in the place of an entry before it shows the
// list to others. Template hash and PCR are the entry's own; the data are
//
//	d-ng    the file's digest, as it was
//	n-ng    what stands for the path
//	x       SHA-256 of the template data that the kernel hashed, 32 bytes
//
// so that the list still gives PCR 10 in the banks of the list's own hash and of
// SHA-256. That digest and path are what was measured nobody can verify: a reader
// must take such an entry for a file that is in no release.
const HiddenTemplate = "ward-hidden"

// hiddenFormat is its format string.
const hiddenFormat = "d-ng|n-ng|" + hiddenField

// hiddenField holds the hash of what the kernel hashed.
const hiddenField = "x-sha256"

// Hide copies a list, which begins after that many entries, with each entry for
// which path gives ok replaced by a hidden one. What stands behind the last entry
// that can be read is copied as it is: it cannot be read by others either. An entry
// of whose template the digest is not known stays as it is.
func Hide(list []byte, entries int, path func(Entry) (hidden string, ok bool)) ([]byte, error) {
	if len(list) == 0 {
		return nil, nil
	}
	d, err := NewDecoderAt(bytes.NewReader(list), entries, 0)
	if errors.Is(err, io.EOF) || errors.Is(err, ErrFormat) {
		return list, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hide paths: %w", err)
	}
	out := make([]byte, 0, len(list)+len(list)/8)
	for {
		_, start := d.Position()
		e, err := d.Next()
		if err != nil {
			return append(out, list[start:]...), nil
		}
		_, end := d.Position()
		hidden, ok := path(e)
		if !ok || e.Digest.Algorithm == "" || e.Template == HiddenTemplate {
			out = append(out, list[start:end]...)
			continue
		}
		out = d.appendHidden(out, e, hidden)
	}
}

// appendHidden writes an entry as one of the hidden template, in the list's form.
func (d *Decoder) appendHidden(out []byte, e Entry, hidden string) []byte {
	sum := pcr.SHA256.Sum(e.Data)
	if d.ascii {
		out = fmt.Appendf(out, "%2d %x %s ", e.PCR, []byte(e.TemplateHash), HiddenTemplate)
		out = fmt.Appendf(out, "%s:%x %s ", e.Digest.Algorithm, []byte(e.Digest.Digest), hidden)
		return append(hex.AppendEncode(out, sum), '\n')
	}
	var order binary.AppendByteOrder = binary.LittleEndian
	if e.BigEndian {
		order = binary.BigEndian
	}
	field := func(b []byte, parts ...[]byte) []byte {
		n := 0
		for _, p := range parts {
			n += len(p)
		}
		b = order.AppendUint32(b, uint32(n))
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	data := field(nil, []byte(e.Digest.Algorithm+":\x00"), e.Digest.Digest)
	data = field(data, []byte(hidden), []byte{0})
	data = field(data, sum)
	out = order.AppendUint32(out, uint32(e.PCR))
	out = append(out, e.TemplateHash...)
	out = field(out, []byte(HiddenTemplate))
	return field(out, data)
}
