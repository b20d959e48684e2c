package bench

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"ward/internal/peers"
)

var perCore = regexp.MustCompile(`([0-9.e+]+) appraisals/core-s`)

// fleet runs the benchmark of the fleet's verifier: what it needs, the
// verifier's own tests make.
func fleet(t *testing.T, b *table) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("go", "-C", root, "test", "-run", "^$", "-bench", "^BenchmarkIncremental$", "-count", "5", "./internal/fleet/verifier").CombinedOutput()
	var rates []float64
	for _, match := range perCore.FindAllSubmatch(text, -1) {
		n, err := strconv.ParseFloat(string(match[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		rates = append(rates, n)
	}
	if err != nil || len(rates) == 0 {
		t.Fatalf("the fleet's verifier was not measured: %v: %s", err, text)
	}
	const budget = 5000
	b.budgeted("appraisals in the fleet, a second and core", fmt.Sprintf("%.0f", median(rates)), budget, median(rates), strconv.Itoa(budget))
}
