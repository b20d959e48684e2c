//go:build crash

package uplink_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"ward/internal/device/mqtt/mqtttest"
)

// crashRounds is how many faults the campaign makes.
const crashRounds = 120

// A long run of random faults of the broker, the way, the fleet and the uplink, one
// upon the other, with events all the time.
//
// Verifies: SR-064
func TestCrashFailingBroker(t *testing.T) {
	seed := uint64(64)
	if s := os.Getenv("WARD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("WARD_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, mqtttest.Setup{Keep: random.IntN(2) == 0})
	counts := make(map[string]int)
	for round := range crashRounds {
		f := faults[random.IntN(len(faults))]
		counts[f.name]++
		s.record(1 + random.IntN(200))
		f.do(s, random.IntN(1<<20))
		s.record(random.IntN(100))
		time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
		f.heal(s)
		if random.IntN(3) > 0 {
			continue // the next fault comes while this one heals
		}
		s.healed()
		events, duplicates := s.check()
		t.Logf("round %d: %d events at the fleet once and in order, %d more on the wire", round+1, events, duplicates)
	}
	s.record(10)
	s.healed()
	events, duplicates := s.check()
	var kinds []string
	for _, f := range faults {
		kinds = append(kinds, fmt.Sprintf("%s %d", f.name, counts[f.name]))
	}
	t.Logf("%d faults (%s), %d connections cut after their bytes, %d events once and in order at the fleet, %d duplicates on the wire",
		crashRounds, strings.Join(kinds, ", "), s.relay.Cuts(), events, duplicates)
}
