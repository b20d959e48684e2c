package verifier_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/verifier"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/verdict"
)

// What a hostile device can send is bounded, and each kind is a finding, told
// once a minute.
//
// Verifies: SR-020, SR-022
func TestHostileDevice(t *testing.T) {
	w := newWorld(t, nil)
	for range 50 {
		if say := said(w.v.Take(w.now, tenant, name, []byte("noise"), nil)); say != "" {
			w.want(say, "link.evidence-invalid")
		}
	}
	if say := w.v.Take(w.now.Add(61*time.Second), tenant, name, []byte("noise"), nil); said(say) != "link.evidence-invalid" || !strings.Contains(say[0].Finding.Detail, "49 more") {
		t.Errorf("a minute later %s", said(say))
	}
	w.now = w.now.Add(time.Hour)
	got, _ := w.takeBytes([]byte("no document"))
	w.want(got, "link.evidence-invalid")

	t.Run("parts that never end", func(t *testing.T) {
		w := newWorld(t, nil)
		long := make([]byte, evidence.MaxDocument)
		_, _ = rand.Read(long)
		told := 0
		for i := range 200 {
			parts, err := evidence.Split([16]byte{byte(i), 1}, long)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parts[1:3] {
				if say := said(w.v.Take(w.now, tenant, name, p, nil)); say != "" {
					w.want(say, "link.evidence-flood")
					told++
				}
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		w.now = w.now.Add(2 * time.Minute)
		w.look(0)
		got, _ := w.take(w.evidence(nil, nil))
		w.want(got, "affirming")
	})
	t.Run("many devices with parts that never end", func(t *testing.T) {
		w := newWorld(t, nil)
		long := make([]byte, evidence.MaxDocument)
		_, _ = rand.Read(long)
		parts, err := evidence.Split([16]byte{1, 1}, long)
		if err != nil {
			t.Fatal(err)
		}
		begin := func(after time.Duration, from, to int) (refused int) {
			w.now = w.now.Add(after)
			if _, _, err := w.v.Look(w.now); err != nil {
				t.Fatal(err)
			}
			for i := from; i < to; i++ {
				for _, p := range parts[1:] {
					for _, s := range w.v.Take(w.now, tenant, fmt.Sprint("pump-", i), p, nil) {
						if s.Finding.Code != finding.LinkEvidenceFlood {
							t.Fatal(said([]verdict.Statement{s}))
						}
						refused++
					}
				}
			}
			return refused
		}
		if n := begin(0, 0, 40); n != 0 {
			t.Errorf("%d of 40 devices refused", n)
		}
		if n := begin(time.Second, 40, 60); n < 10 {
			t.Errorf("%d of 60 devices refused, with %d MiB", n, 60*evidence.MaxDocument>>20)
		}
		// What does not go on is given up, and makes room.
		if n := begin(2*time.Minute, 60, 100); n != 0 {
			t.Errorf("%d of 40 devices refused after two minutes", n)
		}
	})
	t.Run("documents without end", func(t *testing.T) {
		w := newWorld(t, nil)
		var all []string
		for range 40 {
			if got, _ := w.take(w.evidence(nil, nil)); got != "" {
				all = append(all, got)
			}
		}
		if len(all) != 13 || all[11] != "affirming" || all[12] != "link.evidence-flood" {
			t.Errorf("%d statements: %q", len(all), all)
		}
	})
}

func FuzzTake(f *testing.F) {
	w := newWorld(f, func(c *verifier.Config) { c.StateFile = "" })
	b, err := evidence.Encode(w.evidence(nil, nil))
	if err != nil {
		f.Fatal(err)
	}
	parts, err := evidence.Split([16]byte{1}, b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(parts[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		w.now = w.now.Add(time.Hour)
		for _, s := range w.v.Take(w.now, tenant, name, b, nil) {
			if s.Verdict != nil && s.Verdict.Verdict == appraisal.Affirming && !bytes.Equal(b, parts[0]) {
				t.Errorf("affirmed %x", b)
			}
		}
	})
}
