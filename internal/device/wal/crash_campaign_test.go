//go:build crash

package wal_test

import (
	"os"
	"strconv"
	"testing"

	"ward/internal/device/wal/waltest"
)

// distinctStates is what a campaign has to reach.
const distinctStates = 100_000

// TestCrashEveryStateOfTheDisk is the long form: power cuts behind every
// operation of every history with the last write torn at every byte, every
// subset of what was not synced (up to 2^6, random ones of larger sets), a
// second cut at every operation of the recovery; and every kind of fault at every
// operation, with power cuts behind what follows.
//
// Verifies: SR-050
func TestCrashEveryStateOfTheDisk(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("WARD_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("WARD_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("WARD_SEED=%d", seed)
	e := newExplorer(t, waltest.Limits{Exhaustive: 6, Sample: 12, Torn: 1}, waltest.Limits{Exhaustive: 3, Torn: 31}, 61)
	for _, h := range histories {
		e.cutAnywhere(h, seed)
		t.Logf("%s: %d distinct states so far", h.name, len(e.distinct))
	}
	e.cuts = waltest.Limits{}
	for _, h := range histories {
		for n, f := range faults {
			e.failAnywhere(h, f, seed*uint64(len(faults))+uint64(n), 1, 9)
		}
	}
	e.report()
	t.Logf("%d histories, %d kinds of faults", len(histories), len(faults))
	if len(e.distinct) < distinctStates {
		t.Errorf("%d distinct states, want %d", len(e.distinct), distinctStates)
	}
}

// TestCrashAnyBit flips every bit of three segments.
//
// Verifies: SR-051
func TestCrashAnyBit(t *testing.T) { flipBits(t, 8) }
