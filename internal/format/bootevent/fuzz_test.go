package bootevent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"ward/internal/alloctest"
	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// allocationFactor and allocationFloor bound what Decode, and what its fields,
// may allocate: 128 bytes for each byte of data, and what any event costs.
const allocationFactor, allocationFloor = 128, 64 << 10

// Any bytes under any type give a value with fields, within bounds of memory and
// as JSON; nothing that is not measured passes for trusted.
//
// Verifies: SR-003
func FuzzDecode(f *testing.F) {
	for _, folder := range []string{captures, corpus} {
		files, _ := filepath.Glob(filepath.Join(folder, "*.bin"))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			log, err := eventlog.Parse(b)
			if err != nil {
				f.Fatal(err)
			}
			for _, e := range log.Events {
				if len(e.Data) < 8<<10 {
					f.Add(uint32(e.Type), uint8(e.PCR), e.Data, []byte("else"))
				}
			}
		}
	}
	f.Add(uint32(eventlog.EVNoAction), uint8(0), manifest(3), []byte{})
	f.Add(uint32(eventlog.EVIPL), uint8(8), []byte("grub_cmd: a\x00"), []byte("a"))
	f.Add(uint32(eventlog.EVEFIVariableConfig), uint8(7), variable(imageSecurity, "dbx", signatureList(sha256List, 17, 100)), []byte{})
	f.Fuzz(func(t *testing.T, kind uint32, register uint8, data, of []byte) {
		e := eventlog.Event{Type: eventlog.EventType(kind), PCR: int(register), Data: data, Digests: []eventlog.TaggedDigest{{Algorithm: pcr.SHA256, Digest: pcr.SHA256.Sum(of)}}}
		most := uint64(allocationFloor + allocationFactor*len(data))
		d := bootevent.Decode(e)
		if used := alloctest.Bytes(most, func() { bootevent.Decode(e) }); used > most {
			t.Errorf("Decode: %d bytes of data, %d allocated, at most %d", len(data), used, most)
		}
		fields := d.Fields()
		if used := alloctest.Bytes(most, func() { d.Fields() }); used > most {
			t.Errorf("Fields: %d bytes of data, %d allocated, at most %d", len(data), used, most)
		}
		if _, err := json.Marshal(d); err != nil {
			t.Error(err)
		}
		if len(fields) == 0 || d.Value.Kind() == "" {
			t.Errorf("%#v has no fields or no kind", d)
		}
		for _, field := range fields {
			if d.Measured < bootevent.Part && !field.Untrusted {
				t.Errorf("measured %s, and %s is trusted", d.Measured, field.Name)
			}
		}
		text := d.Describe()
		if text == "" || len([]rune(text)) > 250 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("described %q", text)
		}
	})
}

// Describing every event of a log, as the appraisal does.
func BenchmarkDescribeLog(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(captures, "*.bin"))
	machines, _ := filepath.Glob(filepath.Join(corpus, "rhel8*.bin"))
	for _, file := range append(files, machines...) {
		b.Run(filepath.Base(file), func(b *testing.B) {
			raw, err := os.ReadFile(file)
			if err != nil {
				b.Fatal(err)
			}
			log, err := eventlog.Parse(raw)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				for _, e := range log.Events {
					_ = bootevent.Describe(e)
				}
			}
		})
	}
}
