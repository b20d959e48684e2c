package bench

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"ward/internal/peers"
)

var liveHeap = regexp.MustCompile(`([0-9.e+]+) live-B`)

// backlog measures the uplink's live heap with few and with very many events that
// wait, each in a process of its own.
func backlog(t *testing.T, b *table) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	var live [2]float64
	for i, waiting := range []int{1_000, 1_000_000} {
		text, err := exec.Command("go", "-C", root, "test", "-run", "^$", "-bench", fmt.Sprintf("^BenchmarkBacklog$/^%d$", waiting), "-benchtime", "1x", "./internal/agent/uplink").CombinedOutput()
		match := liveHeap.FindSubmatch(text)
		if err != nil || match == nil {
			t.Fatalf("the uplink's memory was not measured: %v: %s", err, text)
		}
		if live[i], err = strconv.ParseFloat(string(match[1]), 64); err != nil {
			t.Fatal(err)
		}
	}
	ratio := live[1] / live[0]
	b.budgeted("memory of the uplink, a million events that wait over a thousand",
		fmt.Sprintf("%.0f KiB, %.0f KiB: %.2f", live[1]/1024, live[0]/1024, ratio), ratio, 1.1, "1.10")
}
