package eventlog_test

import (
	"errors"
	"path/filepath"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// allocationFactor and allocationFloor bound what Parse may allocate: 16 bytes
// for each byte of input, twice that as lists grow, and what any log costs.
const allocationFactor, allocationFloor = 32, 1 << 20

// Verifies: SR-003
func FuzzParse(f *testing.F) {
	f.Add(both.log(boot()...))
	f.Add(both.log(append([]measured{locality(3, 33)}, boot()...)...))
	f.Add(sha1Log(boot()...))
	f.Add(both.header())
	f.Add([]byte{})
	f.Add(builder{banks: []pcr.Algorithm{pcr.SHA256, unknownAlgorithm, pcr.SM3256}, vendor: []byte("v")}.log(boot()...))
	captured, _ := filepath.Glob(filepath.Join("testdata", "*.bin"))
	for _, file := range captured {
		f.Add(readFile(f, file))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := eventlog.Parse(b)
		most := uint64(allocationFloor + allocationFactor*len(b))
		if used := alloctest.Bytes(most, func() { _, _ = eventlog.Parse(b) }); used > most {
			t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
		}
		if err != nil {
			if !errors.Is(err, eventlog.ErrEmpty) && !errors.Is(err, eventlog.ErrHeader) {
				t.Errorf("error %v is neither ErrEmpty nor ErrHeader", err)
			}
			return
		}
		end := int64(0)
		for i, e := range log.Events {
			if e.Index != i || e.Offset < end || e.Offset >= int64(len(b)) {
				t.Errorf("event %d has index %d and offset %d", i, e.Index, e.Offset)
			}
			end = e.Offset + int64(len(e.Data))
			if bootevent.Describe(e) == "" {
				t.Errorf("event %d has no description", i)
			}
		}
		for _, a := range log.Algorithms {
			if bank, err := log.Replay(a.Algorithm); err == nil {
				bank.Values()
			}
		}
	})
}

func BenchmarkParseAndReplay(b *testing.B) {
	captured, _ := filepath.Glob(filepath.Join("testdata", "*.bin"))
	files, _ := filepath.Glob(filepath.Join(corpus, "*.bin"))
	for _, file := range append(captured, files...) {
		log := readFile(b, file)
		b.Run(filepath.Base(file), func(b *testing.B) {
			b.SetBytes(int64(len(log)))
			b.ReportAllocs()
			for b.Loop() {
				l, err := eventlog.Parse(log)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := l.Replay(l.Algorithms[len(l.Algorithms)-1].Algorithm); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
