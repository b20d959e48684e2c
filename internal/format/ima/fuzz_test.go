package ima_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime/metrics"
	"testing"

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
	f.Add([]byte{})
	huge := binaryList(binary.LittleEndian, records[1])
	binary.LittleEndian.PutUint32(huge[34:], 1<<32-1)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := allocated()
		whole := read(b, func(r io.Reader) io.Reader { return r })
		if used, most := allocated()-before, uint64(allocationFloor+allocationFactor*len(b)); used > most {
			t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
		}
		pieces := read(b, func(r io.Reader) io.Reader { return &pieceReader{r: r} })
		if whole != pieces {
			t.Errorf("read at once: %+v, in pieces: %+v", whole, pieces)
		}
	})
}

// allocated is how many bytes the program has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

type outcome struct {
	entries, violations int
	value               string
	err                 string
}

func read(b []byte, wrap func(io.Reader) io.Reader) outcome {
	var o outcome
	replay, _ := ima.NewReplay(pcr.SHA256)
	d, err := ima.NewDecoder(wrap(bytes.NewReader(b)))
	for err == nil {
		var e ima.Entry
		if e, err = d.Next(); err == nil {
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
