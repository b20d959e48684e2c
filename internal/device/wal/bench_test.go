package wal_test

import (
	"bytes"
	"fmt"
	"testing"

	"ward/internal/device/wal"
)

// anEvent is as large as events are.
var anEvent = bytes.Repeat([]byte("0123456789"), 60)

// BenchmarkAppend20 is 20 events and one real sync.
func BenchmarkAppend20(b *testing.B) {
	log, _, err := wal.Open(wal.Dir(b.TempDir()), wal.Options{Epoch: 1, MaxBytes: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	payload := 0
	for b.Loop() {
		for range 20 {
			if _, err := log.Append(anEvent); err != nil {
				b.Fatal(err)
			}
			payload += len(anEvent)
		}
		if err := log.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(log.Written())/float64(payload), "written/payload")
}

// BenchmarkOpen reads a journal of the default size, and a large one, as the
// agent does, which looks at every record.
func BenchmarkOpen(b *testing.B) {
	for _, mib := range []int64{16, 64} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			dir := wal.Dir(b.TempDir())
			log, _, err := wal.Open(dir, wal.Options{Epoch: 1})
			if err != nil {
				b.Fatal(err)
			}
			for log.Size() < mib<<20 {
				if _, err := log.Append(anEvent); err != nil {
					b.Fatal(err)
				}
			}
			if err := log.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(mib << 20)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := wal.Open(dir, wal.Options{Each: func(wal.Record) error { return nil }}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
