package bench

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"text/tabwriter"
	"time"
)

var measure = flag.String("measure", "", "measure, and write the table to this file")

// table is what was measured.
type table struct{ rows [][4]string }

// budgeted adds a measurement that has a bound.
func (b *table) budgeted(what, measured string, value, bound float64, budget string) {
	ok := "yes"
	if value > bound {
		ok = "no"
	}
	b.rows = append(b.rows, [4]string{what, measured, budget, ok})
}

// noted adds a measurement without a bound.
func (b *table) noted(what, measured string) {
	b.rows = append(b.rows, [4]string{what, measured, "-", "-"})
}

// TestMeasure measures everything and fails only for what it could not measure.
func TestMeasure(t *testing.T) {
	if *measure == "" {
		t.Skip("measuring takes some minutes and decides nothing: run 'make bench'")
	}
	var b table
	eventLogs(t, &b)
	lists(t, &b)
	appraisals(t, &b)
	following(t, &b)
	programs(t, &b)
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "what\tmeasured\tbudget\tok")
	for _, r := range b.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r[0], r[1], r[2], r[3])
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*measure, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// byTurns runs functions one after the other, round by round, for about as long
// as asked, and returns the best time of each.
func byTurns(long time.Duration, functions ...func()) []time.Duration {
	best := make([]time.Duration, len(functions))
	const least = 5
	for round, begun := 0, time.Now(); round < least || time.Since(begun) < long; round++ {
		for i, f := range functions {
			start := time.Now()
			f()
			if d := time.Since(start); round == 0 || d < best[i] {
				best[i] = d
			}
		}
	}
	return best
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// short rounds a time to three digits or so.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= 10*unit {
			return d.Round(unit / 10).String()
		}
	}
	return d.Round(10 * time.Nanosecond).String()
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
