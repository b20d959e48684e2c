package bench

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"ward/internal/peers"
)

// nsPerOp is a line of a Go benchmark.
var nsPerOp = regexp.MustCompile(`(?m)^BenchmarkEnrol\S*\s+\d+\s+(\d+) ns/op`)

// enrolment measures a whole enrolment of both keys: the device's part on a
// software TPM, and the registrar over TLS in the same process.
func enrolment(t *testing.T, b *table) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkEnrol$", "-benchtime", "10x", "-count", "3", "./internal/daemon")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("measure enrolment: %v: %s", err, out)
	}
	var times []time.Duration
	for _, m := range nsPerOp.FindAllSubmatch(out, -1) {
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Duration(n))
	}
	if len(times) != 3 {
		t.Fatalf("measure enrolment: no result in %s", out)
	}
	slowTPM(t, b, root)
	took := median(times)
	b.budgeted("enrolment of both keys, software TPM and registrar included", short(took), float64(took.Milliseconds()), 200, fmt.Sprint(200*time.Millisecond))
}

// slowMetric is one metric of the benchmark of a slow TPM.
var slowMetric = regexp.MustCompile(`([0-9.]+) (alone-ms|behind-ms|record-us)/op`)

// slowTPM measures a signature with a TPM that takes 600 ms for each command, and
// what others do meanwhile.
func slowTPM(t *testing.T, b *table, root string) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkSlowTPM$", "-benchtime", "2x", "./internal/daemon")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("measure slow TPM: %v: %s", err, out)
	}
	got := make(map[string]string)
	for _, m := range slowMetric.FindAllSubmatch(out, -1) {
		got[string(m[2])] = string(m[1])
	}
	if len(got) != 3 {
		t.Fatalf("measure slow TPM: no result in %s", out)
	}
	b.noted("TPM of 600 ms a command: a signature alone, behind another, an event recorded meanwhile",
		fmt.Sprintf("%s ms, %s ms, %s us", got["alone-ms"], got["behind-ms"], got["record-us"]))
}
