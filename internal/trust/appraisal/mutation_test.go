package appraisal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
)

// A mutation changes one event of a log; nil: it does not apply to the event.
type mutation struct {
	name   string
	apply  func(event []byte, e eventlog.Event) []byte
	labels bool // changes no digest: found where the release has the event
}

var mutations = []mutation{
	{"deleted", func([]byte, eventlog.Event) []byte { return []byte{} }, false},
	{"digest altered", func(event []byte, e eventlog.Event) []byte {
		d, _ := e.Digest(pcr.SHA256)
		event[bytes.Index(event, d)] ^= 1
		return event
	}, false},
	{"doubled", func(event []byte, _ eventlog.Event) []byte { return slices.Concat(event, event) }, false},
	{"moved to another register", func(event []byte, e eventlog.Event) []byte {
		binary.LittleEndian.PutUint32(event, uint32((e.PCR+1)%8))
		return event
	}, false},
	{"relabelled as an action", relabel(eventlog.EVAction), true},
	{"relabelled as no action", relabel(eventlog.EVNoAction), false},
	{"relabelled as a separator", relabel(eventlog.EVSeparator), true},
	{"relabelled as an unknown type", relabel(0x7fffffff), true},
	{"data altered", func(event []byte, e eventlog.Event) []byte {
		// A separator's data say nothing that its digest does not.
		if len(e.Data) == 0 || !e.Rehashes(pcr.SHA256) || e.Type == eventlog.EVSeparator {
			return nil
		}
		event[len(event)-1] ^= 1
		return event
	}, true},
}

func relabel(to eventlog.EventType) func([]byte, eventlog.Event) []byte {
	return func(event []byte, e eventlog.Event) []byte {
		if e.Type == to {
			return nil
		}
		binary.LittleEndian.PutUint32(event[4:], uint32(to))
		return event
	}
}

// For any single event of a real log that is deleted, altered or relabelled the
// verdict is never affirming, and something new is found.
//
// Verifies: SR-001 SR-002 SR-003
func TestPitfall2NoChangedEventIsAffirming(t *testing.T) {
	for name, raw := range logs(t) {
		d := appraisaltest.Booted(t, raw, appraisaltest.Program("/init"))
		verified, policy := d.Verified(t), d.Policy(t)
		quoted := d.Quoted(t, nil, evidence.Record{})
		honest := appraisal.Appraise(quoted, verified, policy, now)
		log, err := eventlog.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range log.Events {
			if _, extends := e.Digest(pcr.SHA256); !extends || e.Type == eventlog.EVNoAction {
				continue
			}
			end := int64(len(raw))
			if i+1 < len(log.Events) {
				end = log.Events[i+1].Offset
			}
			for _, m := range mutations {
				changed := m.apply(bytes.Clone(raw[e.Offset:end]), e)
				if changed == nil || m.name == "data altered" && i+1 == len(log.Events) {
					continue
				}
				altered := quoted
				altered.EventLog = slices.Concat(raw[:e.Offset], changed, raw[end:])
				r := appraisal.Appraise(altered, verified, policy, now)
				what := fmt.Sprintf("%s: event %d (%s in PCR %d) %s", name, i, e.Type, e.PCR, m.name)
				if r.Verdict == appraisal.Affirming || len(r.Findings) <= len(honest.Findings) {
					t.Errorf("%s: %s with %v", what, r.Verdict, codes(r))
				}
				if !m.labels && !slices.Contains(codes(r), finding.BootPCRUnexplained) {
					t.Errorf("%s: no %s among %v", what, finding.BootPCRUnexplained, codes(r))
				}
			}
		}
	}
}

// Without the events, and with registers that are not zero, nothing is explained:
// reproduced against go-attestation 0.6.1 and 0.6.4, which return no error.
//
// Verifies: SR-002 SR-007
func TestPitfall1HeaderAloneIsNeverAffirming(t *testing.T) {
	for name, raw := range logs(t) {
		d := appraisaltest.Booted(t, raw, appraisaltest.Program("/init"))
		log, err := eventlog.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		e := d.Evidence()
		e.EventLog = raw[:log.Events[1].Offset]
		r := appraise(t, d, e)
		if r.Verdict != appraisal.Contraindicated || !slices.Contains(codes(r), finding.BootPCRUnexplained) {
			t.Errorf("%s: %s with %v", name, r.Verdict, codes(r))
		}
	}
}

// Verifies: SR-002
func TestPitfall1EveryEventOfAPCRDeleted(t *testing.T) {
	for name, raw := range logs(t) {
		d := appraisaltest.Booted(t, raw, appraisaltest.Program("/init"))
		log, err := eventlog.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for index := range pcr.Count {
			var kept []byte
			gone := 0
			for i, e := range log.Events {
				end := int64(len(raw))
				if i+1 < len(log.Events) {
					end = log.Events[i+1].Offset
				}
				if e.PCR == index && e.Type != eventlog.EVNoAction {
					gone++
					continue
				}
				kept = append(kept, raw[e.Offset:end]...)
			}
			if gone == 0 {
				continue
			}
			e := d.Evidence()
			e.EventLog = kept
			r := appraise(t, d, e)
			if r.Verdict != appraisal.Contraindicated || r.PCRs[index].State != appraisal.Unexplained {
				t.Errorf("%s without PCR %d: %s, %s", name, index, r.Verdict, r.PCRs[index].State)
			}
		}
	}
}

// A log cut at any byte is never affirming and never unexplained: unverifiable is
// not tampered.
//
// Verifies: SR-003 SR-007
func TestPitfall11CutLogIsUnverifiable(t *testing.T) {
	d := appraisaltest.New(t)
	verified, policy, quoted := d.Verified(t), d.Policy(t), d.Quoted(t, nil, evidence.Record{})
	log, err := eventlog.Parse(d.Log)
	if err != nil {
		t.Fatal(err)
	}
	border := make(map[int64]bool)
	for _, e := range log.Events {
		border[e.Offset] = true
	}
	for n := range len(d.Log) {
		e := quoted
		e.EventLog = d.Log[:n]
		r := appraisal.Appraise(e, verified, policy, now)
		if r.Verdict == appraisal.Affirming {
			t.Fatalf("cut at %d: affirming", n)
		}
		if !border[int64(n)] && r.Verdict == appraisal.Contraindicated {
			t.Fatalf("cut at %d inside an event: %v", n, codes(r))
		}
	}
}

func FuzzNothingButTheLogIsAffirming(f *testing.F) {
	d := appraisaltest.New(f)
	verified, policy, quoted := d.Verified(f), d.Policy(f), d.Quoted(f, nil, evidence.Record{})
	f.Add(d.Log)
	f.Add(appraisaltest.Log())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e := quoted
		e.EventLog = b
		r := appraisal.Appraise(e, verified, policy, now)
		if r.Verdict != appraisal.Affirming {
			return
		}
		log, err := eventlog.Parse(b)
		if err != nil {
			t.Fatal("affirming without a log")
		}
		bank, err := log.Replay(pcr.SHA256)
		if err != nil {
			t.Fatal("affirming without a replay")
		}
		for i := range pcr.Count {
			if i != 10 && !bytes.Equal(bank.Value(i), d.PCRs[i]) {
				t.Fatalf("affirming, and PCR %d is not explained", i)
			}
		}
	})
}

func FuzzIMAListIsNeverAffirmingUnlessItFits(f *testing.F) {
	d := appraisaltest.New(f)
	verified, policy, quoted := d.Verified(f), d.Policy(f), d.Quoted(f, nil, evidence.Record{})
	f.Add(d.List)
	f.Add([]byte{})
	f.Add(d.List[:len(d.List)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		e := quoted
		e.IMA = b
		r := appraisal.Appraise(e, verified, policy, now)
		if r.Verdict == appraisal.Affirming && !bytes.Equal(r.PCRs[10].Replayed, d.PCRs[10]) {
			t.Fatal("affirming, and PCR 10 is not explained")
		}
	})
}
