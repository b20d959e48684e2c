package secureboot_test

import (
	"os"
	"path/filepath"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/secureboot"
)

// allocationFactor and allocationFloor bound what Derive may allocate, for each
// byte of a log and for any.
const allocationFactor, allocationFloor = 256, 1 << 20

// Any log gives a state that is bounded; a policy that demands Secure Boot
// passes only where it was measured to be on, and the policy that is learned
// from a state without problems never refuses it for its keys.
//
// Verifies: SR-003, SR-007
func FuzzDerive(f *testing.F) {
	f.Add(logOf(good()...))
	f.Add(logOf(append(good(), authority(shim, "MokSBState", []byte{1}))...))
	for _, folder := range []string{captures, corpus} {
		files, _ := filepath.Glob(filepath.Join(folder, "*.bin"))
		for _, file := range files {
			if b, err := os.ReadFile(file); err == nil && len(b) < 32<<10 {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := eventlog.Parse(b)
		if err != nil {
			return
		}
		for _, bank := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256} {
			s := secureboot.Derive(log, bank)
			most := uint64(allocationFloor + allocationFactor*len(b))
			if used := alloctest.Bytes(most, func() { secureboot.Derive(log, bank) }); used > most {
				t.Errorf("%d bytes of log, %d allocated, at most %d", len(b), used, most)
			}
			if fs := secureboot.Judge(s, secureboot.Policy{Required: true}); len(fs) == 0 && !(s.Enabled.Measured && s.Enabled.On && s.PK.Measured && len(s.PK.Keys) > 0) {
				t.Errorf("nothing found about %+v", s)
			}
			learned := secureboot.PolicyOf(s)
			learned.Required = false
			if fs := secureboot.Judge(s, learned); len(fs) > 0 && len(s.Problems) == 0 {
				t.Errorf("learned %+v, found %+v", learned, fs)
			}
		}
	})
}

func BenchmarkDerive(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(captures, "*.bin"))
	machines, _ := filepath.Glob(filepath.Join(corpus, "rhel8*.bin"))
	for _, file := range append(files, machines...) {
		b.Run(filepath.Base(file), func(b *testing.B) {
			log := readLog(b, file)
			s := secureboot.Derive(log, strongest(log))
			p := secureboot.PolicyOf(s)
			b.ReportAllocs()
			for b.Loop() {
				if fs := secureboot.Judge(secureboot.Derive(log, strongest(log)), p); len(fs) > 0 {
					b.Fatal(fs)
				}
			}
		})
	}
}
