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
	took := median(times)
	b.budgeted("enrolment of both keys, software TPM and registrar included", short(took), float64(took.Milliseconds()), 200, fmt.Sprint(200*time.Millisecond))
}
