package verifier_test

import (
	"syscall"
	"testing"
	"time"

	"ward/internal/fleet/verifier"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/evidence"
	"ward/internal/trust/presence"
)

// One answer to a question that names what is held: parts, parsing, two
// signatures, event log and what is new of the list. The blueprint's budget is
// 5,000 a second and core.
func BenchmarkIncremental(b *testing.B) {
	w := newWorld(b, func(c *verifier.Config) { c.StateFile = "" })
	w.heard(presence.Online, boot)
	w.take(w.evidence(w.asked(0), nil))
	c := w.asked(2 * time.Hour)
	w.heard(presence.Online, "boot-2") // ends the question, so that what names what is held can come again and again
	c.Nonce = nil
	messages := make([][]byte, b.N) // made beforehand: the device's time does not count
	size := 0
	for i := range messages {
		text, err := evidence.Encode(w.evidence(c, nil))
		if err != nil {
			b.Fatal(err)
		}
		parts, err := evidence.Split([16]byte{0xff, byte(i), byte(i >> 8), byte(i >> 16)}, text)
		if err != nil {
			b.Fatal(err)
		}
		messages[i], size = parts[0], len(parts[0])
	}
	b.ReportAllocs()
	b.ResetTimer()
	begun := cpu(b)
	for _, m := range messages {
		w.now = w.now.Add(time.Minute)
		say := w.v.Take(w.now, tenant, name, m, nil)
		if len(say) != 1 || say[0].Verdict.Verdict != appraisal.Affirming {
			b.Fatal(said(say))
		}
	}
	b.ReportMetric(float64(size), "bytes")
	b.ReportMetric(float64(b.N)/(cpu(b)-begun).Seconds(), "appraisals/core-s")
}

// cpu is the processor time that this process has taken: what others run on the
// same machine does not count.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
