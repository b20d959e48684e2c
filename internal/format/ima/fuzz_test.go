package ima_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

// allocationFactor and allocationFloor bound what reading a list may allocate:
// a multiple of the input, and what is allocated for any input. The factor
// covers the buffer's doubling, the template data of an ASCII list, the strings
// and, in this test, the copies that Clone makes.
const allocationFactor, allocationFloor = 64, 1 << 20

// Verifies: SR-004
func FuzzDecode(f *testing.F) {
	var records []record
	for _, c := range templates(binary.LittleEndian) {
		records = append(records, c.record)
	}
	violation := measured("ima-ng", "sha1", make([]byte, 20), "/v")
	violation.violation = true
	records = append(records, violation)
	f.Add(binaryList(binary.LittleEndian, records...))
	f.Add(binaryList(binary.BigEndian, records...))
	f.Add(asciiList(binary.LittleEndian, records...))
	f.Add(binaryList(binary.LittleEndian, buffered("dm_table_load", []byte(`name=a\,b;c=`)), buffered(".ima", testCertificate(f))))
	captured, err := filepath.Glob("testdata/qemu-*")
	if err != nil || len(captured) == 0 {
		f.Fatalf("no captured list: %v", err)
	}
	for _, name := range captured {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 4<<10)])
	}
	f.Add([]byte{})
	huge := binaryList(binary.LittleEndian, records[1])
	binary.LittleEndian.PutUint32(huge[34:], 1<<32-1)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := read(b, func(r io.Reader) io.Reader { return r })
		most := uint64(allocationFloor + allocationFactor*len(b))
		if used := alloctest.Bytes(most, func() { read(b, func(r io.Reader) io.Reader { return r }) }); used > most {
			t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
		}
		pieces := read(b, func(r io.Reader) io.Reader { return &pieceReader{r: r} })
		if !reflect.DeepEqual(whole, pieces) {
			t.Errorf("read at once: %+v, in pieces: %+v", whole, pieces)
		}
		switch {
		case len(b) == 0:
		case b[0] < ' ':
			if !bytes.HasPrefix(b, whole.written) {
				t.Errorf("a binary list is written otherwise:\n%x, was\n%x", whole.written, b)
			}
		case whole.plain:
			again := read(whole.written, func(r io.Reader) io.Reader { return r })
			if again.entries != whole.entries || again.violations != whole.violations || again.value != whole.value {
				t.Errorf("an ASCII list, written in binary: %+v, was %+v", again, whole)
			}
		}
	})
}

// outcome is what was read of a list; written is it as a binary list, which can
// be read again where it is plain: the hashes are SHA-1 and the names short.
type outcome struct {
	entries, violations int
	value               string
	err                 string
	written             []byte
	plain               bool
}

// appendBinary writes an entry as ima_measurements_show does.
func appendBinary(b []byte, e ima.Entry) []byte {
	var order binary.AppendByteOrder = binary.LittleEndian
	if e.BigEndian {
		order = binary.BigEndian
	}
	b = append(order.AppendUint32(b, uint32(e.PCR)), e.TemplateHash...)
	b = append(order.AppendUint32(b, uint32(len(e.Template))), e.Template...)
	if e.Template == "ima" {
		b = append(b, e.Digest.Digest...)
		return append(order.AppendUint32(b, uint32(len(e.Path))), e.Path...)
	}
	return append(order.AppendUint32(b, uint32(len(e.Data))), e.Data...)
}

func read(b []byte, wrap func(io.Reader) io.Reader) outcome {
	o := outcome{plain: true}
	replay, _ := ima.NewReplay(pcr.SHA256)
	d, err := ima.NewDecoder(wrap(bytes.NewReader(b)))
	for err == nil {
		var e ima.Entry
		if e, err = d.Next(); err == nil {
			o.written = appendBinary(o.written, e)
			o.plain = o.plain && len(e.TemplateHash) == 20 && len(e.Template) <= ima.MaxTemplateName
			e.Content()
			e.Fields()
			err = replay.Add(e.Clone())
		}
	}
	if !errors.Is(err, io.EOF) {
		o.err = err.Error()
	}
	o.entries, o.violations, o.value = replay.Entries(), replay.Violations(), replay.Value().String()
	return o
}

// pieceReader reads up to 7 bytes at a time.
type pieceReader struct{ r io.Reader }

func (p *pieceReader) Read(b []byte) (int, error) { return p.r.Read(b[:min(7, len(b))]) }
