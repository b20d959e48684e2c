package bench

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
	fleet(t, &b)
	programs(t, &b)
	enrolment(t, &b)
	record(t, &b)
	scans(t, &b)
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

// least is how long one turn takes at least: short work is repeated until the
// clock's steps and one collection of garbage no longer matter.
const least = 2 * time.Millisecond

// taken are the times that one function took, one for each round.
type taken []time.Duration

func median[T cmp.Ordered](list []T) T { return slices.Sorted(slices.Values(list))[len(list)/2] }

// over is the median of the rounds' ratios: both times of a ratio are of the
// same moment.
func (m taken) over(other taken) float64 {
	ratios := make([]float64, len(m))
	for i := range m {
		ratios[i] = float64(m[i]) / float64(other[i])
	}
	return median(ratios)
}

// byTurns runs functions by turns, each as often as the others at the head of a
// round. What each leaves to the garbage collector is collected before the next.
func byTurns(rounds int, functions ...func()) []taken {
	repeat := make([]int, len(functions))
	for i, f := range functions {
		f() // what is done but once, and the memory that it fills
		start := time.Now()
		f()
		repeat[i] = 1 + int(least/max(time.Since(start), 1))
	}
	all := make([]taken, len(functions))
	for round := range rounds {
		for turn := range functions {
			i := (round + turn) % len(functions)
			runtime.GC()
			start := time.Now()
			for range repeat[i] {
				functions[i]()
			}
			all[i] = append(all[i], time.Since(start)/time.Duration(repeat[i]))
		}
	}
	return all
}

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
