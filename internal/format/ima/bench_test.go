package ima_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

const benchEntries = 100_000

func benchRecords(n int) []record {
	records := make([]record, n)
	for i := range records {
		sum := sha256.Sum256(fmt.Append(nil, i))
		records[i] = measured("ima-ng", "sha256", sum[:], fmt.Sprintf("/usr/lib/x86_64-linux-gnu/package-%d/libexample.so.%d", i%997, i))
	}
	return records
}

func replayList(list []byte) (*ima.Replay, error) {
	replay, err := ima.NewReplay(pcr.SHA256)
	if err != nil {
		return nil, err
	}
	d, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		return nil, err
	}
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return replay, nil
		}
		if err != nil {
			return nil, err
		}
		if err := replay.Add(e); err != nil {
			return nil, err
		}
	}
}

// BenchmarkReplay replays 100,000 entries. "x-bare" is the best time as a
// multiple of the best for hashing and extending the same bytes without reading
// a list.
func BenchmarkReplay(b *testing.B) {
	lists, data := benchLists()
	for name, list := range lists {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(list)))
			b.ReportAllocs()
			best, bare := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
			for b.Loop() {
				b.StopTimer()
				start := time.Now()
				want := hashOnly(data)
				bare = min(bare, time.Since(start))
				b.StartTimer()
				start = time.Now()
				replay, err := replayList(list)
				best = min(best, time.Since(start))
				if err != nil || !bytes.Equal(replay.Value(), want) {
					b.Fatalf("PCR %v, want %x, error %v", replay, want, err)
				}
			}
			b.ReportMetric(float64(best)/float64(bare), "x-bare")
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/benchEntries, "ns/entry")
		})
	}
}

// benchLists returns the lists, and the template data in one piece with their
// lengths, so that the collector finds no more to scan than in a program.
func benchLists() (lists map[string][]byte, data hashed) {
	records := benchRecords(benchEntries)
	for _, r := range records {
		d := r.hashed(binary.LittleEndian)
		data.bytes = append(data.bytes, d...)
		data.sizes = append(data.sizes, len(d))
	}
	return map[string][]byte{
		"binary": binaryList(binary.LittleEndian, records...),
		"ascii":  asciiList(binary.LittleEndian, records...),
	}, data
}

type hashed struct {
	bytes []byte
	sizes []int
}

// hashOnly is the hashing of a replay alone.
func hashOnly(data hashed) []byte {
	var joined [2 * sha256.Size]byte
	rest := data.bytes
	for _, n := range data.sizes {
		sum := sha256.Sum256(rest[:n])
		rest = rest[n:]
		copy(joined[sha256.Size:], sum[:])
		sum = sha256.Sum256(joined[:])
		copy(joined[:], sum[:])
	}
	return joined[:sha256.Size]
}

// Verifies: SR-004
func TestReplayDoesNotAllocatePerEntry(t *testing.T) {
	const entries = 5000
	records := benchRecords(entries)
	for name, list := range map[string][]byte{
		"binary": binaryList(binary.LittleEndian, records...),
		"ascii":  asciiList(binary.LittleEndian, records...),
	} {
		allocations := testing.AllocsPerRun(5, func() {
			if _, err := replayList(list); err != nil {
				t.Error(err)
			}
		})
		if allocations > entries/50 {
			t.Errorf("%s: %.0f allocations for %d entries", name, allocations, entries)
		}
	}
}
