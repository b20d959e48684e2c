package appraisal_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/measured"
)

func BenchmarkAppraise(b *testing.B) {
	d := appraisaltest.New(b)
	e, verified, policy := d.Quoted(b, nil, evidence.Record{}), d.Verified(b), d.Policy(b)
	b.ReportAllocs()
	for b.Loop() {
		if r := appraisal.Appraise(e, verified, policy, now); r.Verdict != appraisal.Affirming {
			b.Fatal(r.Verdict)
		}
	}
}

// A long list, every entry judged; beside it the bare hashing of its bytes.
func BenchmarkIMAFindings(b *testing.B) {
	programs := make([]appraisaltest.Measured, 10_000)
	for i := range programs {
		programs[i] = appraisaltest.Program(fmt.Sprintf("/usr/lib/python3/dist-packages/module/%06d.so", i))
	}
	d := appraisaltest.Booted(b, appraisaltest.Log(appraisaltest.Events()...), programs...)
	against := measured.Against{Bank: pcr.SHA256, PCR10: d.PCRs[10], Boot: []pcr.Values{d.PCRs}, Baseline: d.Index(b)}
	b.Run("appraise", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if sum, fs := measured.Judge(bytes.NewReader(d.List), against); !sum.Fits || len(fs) != 0 {
				b.Fatal(sum, fs)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			var value [64]byte
			entry := d.List[:len(d.List)/len(programs)]
			for range programs {
				sum := sha256.Sum256(entry[58:])
				copy(value[32:], sum[:])
				sum = sha256.Sum256(value[:])
				copy(value[:], sum[:])
			}
		}
	})
}
