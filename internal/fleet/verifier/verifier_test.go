package verifier_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/verifier"
	"ward/internal/format/chain"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

// A device is asked at its birth and then every hour; it answers once with
// everything, and then with what is new.
//
// Verifies: SR-030, SR-031
func TestQuestionsAndAnswers(t *testing.T) {
	w := newWorld(t, nil)
	if c, say := w.look(0); c != nil || say != "" {
		t.Errorf("before the birth: %+v, %s", c, say)
	}
	w.heard(presence.Online, boot)
	first := w.asked(time.Second)
	if first.Boot != "" || first.EventLog != nil || first.Expires.Sub(first.Issued) != time.Minute {
		t.Errorf("first question %+v", first)
	}
	if c, _ := w.look(time.Second); c != nil {
		t.Error("asked again before the answer")
	}
	got, v := w.take(w.evidence(first, nil))
	w.want(got, "affirming")
	if !v.Asked || v.Version != "1.0.0" || v.Boot != boot || v.IMAEntries != 3 || v.Events == 0 || v.Claims[appraisal.ClaimQuote] != appraisal.Affirming {
		t.Errorf("verdict %+v", v)
	}

	if c, say := w.look(59 * time.Minute); c != nil || say != "" {
		t.Errorf("within the hour: %+v, %s", c, say)
	}
	second := w.asked(2 * time.Minute)
	if second.Boot != boot || !bytes.Equal(second.EventLog, pcr.SHA256.Sum(w.d.Log)) || second.List.Entries != 3 || !bytes.Equal(second.List.PCR, w.d.PCRs[ima.Register]) {
		t.Errorf("second question %+v", second)
	}
	w.d.SetList(t, appraisaltest.Program("/usr/sbin/wardd"), appraisaltest.Program("/usr/bin/pump"), appraisaltest.Program("/usr/bin/pump"))
	e := w.evidence(second, nil)
	if len(e.EventLog) != 0 || e.From.Entries != 3 {
		t.Fatalf("the device sends everything: %+v", e.From)
	}
	got, v = w.take(e)
	w.want(got, "affirming")
	if v.IMAEntries != 4 || v.Events == 0 {
		t.Errorf("verdict on what is new %+v", v)
	}
	if third := w.asked(time.Hour + time.Second); third.List.Entries != 4 {
		t.Errorf("third question %+v", third)
	}
	w.heard(presence.Offline, boot)
	if c, say := w.look(2 * time.Hour); c != nil || say != "" {
		t.Errorf("of a device that is gone: %+v, %s", c, say)
	}
	w.heard(presence.Online, "boot-2")
	if c := w.asked(time.Second); c.Boot != "" {
		t.Errorf("of a boot of which nothing is held: %+v", c)
	}
}

// A device whose files are not the release's gets the verdict that it would give
// itself; unasked evidence is judged too.
//
// Verifies: SR-031
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world)
		alter  func(e *evidence.Evidence)
		want   string
	}{
		{"honest", nil, nil, "affirming"},
		{"a program that is not released", func(w *world) {
			w.d.SetList(t, appraisaltest.Program("/data/stranger"))
		}, nil, "warning ima.unknown-file"},
		{"a release that is not known here", nil, func(e *evidence.Evidence) { e.Release = pcr.SHA256.Sum([]byte("other")) }, "none boot.not-judged"},
		{"no quote", func(w *world) { w.d.PCRs = nil }, nil, ""},
		{"of another device", nil, func(e *evidence.Evidence) { e.Device = "paper-2" }, ""},
	} {
		w := newWorld(t, nil)
		if c.change != nil {
			c.change(w)
		}
		got, v := w.take(w.evidence(nil, c.alter))
		if c.want != "" && got != c.want && !strings.HasPrefix(got, c.want+" ") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if v == nil || v.Asked || (v.Verdict == appraisal.Affirming) != (c.name == "honest") {
			t.Errorf("%s: %q, verdict %+v", c.name, got, v)
		}
		if c.name == "of another device" && !strings.Contains(got, string(finding.EvidenceForeign)) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// Without a registered key there is no pass.
func TestUnknownDevice(t *testing.T) {
	w := newWorld(t, nil)
	if err := os.Remove(filepath.Join(w.dir, tenant, name+".ak.pem")); err != nil {
		t.Fatal(err)
	}
	got, v := w.take(w.evidence(nil, nil))
	if v.Verdict != appraisal.None || !strings.Contains(got, string(finding.QuoteMissing)) {
		t.Errorf("%s", got)
	}
	if err := os.WriteFile(filepath.Join(w.dir, tenant, name+".ak.pem"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	if got, v := w.take(w.evidence(nil, nil)); v.Verdict != appraisal.None {
		t.Errorf("a key file that is none: %s", got)
	}
}

// An answer that does not come is a condition: raised once, cleared by an answer.
// The device is asked again, less and less often.
//
// Verifies: SR-030
func TestMissingEvidence(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	w.asked(0)
	raised, questions := 0, 0
	for range 6 * 3600 {
		c, say := w.look(time.Second)
		if c != nil {
			questions++
		}
		if say != "" {
			w.want(say, "link.evidence-missing")
			raised++
		}
	}
	if raised != 1 || questions < 6 || questions > 12 {
		t.Errorf("in six hours: raised %d times, %d questions", raised, questions)
	}
	var c *receipt.Challenge
	for c == nil {
		c, _ = w.look(time.Second)
	}
	got, _ := w.take(w.evidence(c, nil))
	w.want(got, "affirming, cleared link.evidence-missing")
	if c, say := w.look(30 * time.Minute); c != nil || say != "" {
		t.Errorf("after the answer: %+v, %s", c, say)
	}
}

// Nobody blames a device for an answer that got lost while it was not there, or
// while the fleet was not: it is asked again, once the question has expired.
func TestAnswerLostWithTheConnection(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	c := w.asked(0)
	w.heard(presence.Lost, boot)
	w.heard(presence.Online, boot)
	if c, say := w.look(59 * time.Second); c != nil || say != "" {
		t.Errorf("while the question is good: %+v, %s", c, say)
	}
	if again := w.asked(2 * time.Second); bytes.Equal(again.Nonce, c.Nonce) {
		t.Error("asked with the same nonce")
	}
	w.heard(presence.Lost, boot)
	if c, say := w.look(time.Hour); c != nil || say != "" {
		t.Errorf("of a device that is gone: %+v, %s", c, say)
	}
	w.heard(presence.Online, boot)
	w.asked(time.Second)
	_, say := w.look(2 * time.Minute)
	w.want(say, "link.evidence-missing")
}

// A restart knows the question that waits, what evidence has established and what
// is missing; it asks for the event log again.
//
// Verifies: SR-030, SR-031
func TestRestart(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	old := w.evidence(nil, nil)
	c := w.asked(0)
	w.crash()
	got, _ := w.take(w.evidence(c, nil))
	w.want(got, "affirming")
	w.restart()
	got, _ = w.take(old)
	w.want(got, "contraindicated boot.quote-replayed")
	w.heard(presence.Online, boot)
	if c, _ := w.look(time.Minute); c != nil {
		t.Errorf("asked at once after a restart, though the boot is known: %+v", c)
	}
	if c := w.asked(time.Hour); c.EventLog != nil || c.List.Entries != 3 || c.Boot != boot {
		t.Errorf("question after a restart %+v", c)
	}
	w.restart()
	w.heard(presence.Online, boot)
	_, say := w.look(2 * time.Minute)
	w.want(say, "link.evidence-missing")
	w.restart()
	w.heard(presence.Online, boot)
	for range 300 {
		if _, say := w.look(time.Minute); say != "" {
			t.Errorf("told again after a restart: %s", say)
		}
	}
}

// Verifies: SR-022
func TestStateFileThatIsNone(t *testing.T) {
	w := newWorld(t, nil)
	for _, text := range []string{"", "{", `{"schema":2,"devices":{}}`, `{"schema":1,"devices":{"lab/paper-1":null}}`, `{"schema":1,"devices":{"../x":{}}}`,
		`{"schema":1,"devices":{"lab/paper-1":{"key":{"id":"00","spki":"AAAA"}}}}`} {
		if err := os.WriteFile(w.config.StateFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.New(w.config); err == nil || !strings.Contains(err.Error(), w.config.StateFile) {
			t.Errorf("state %q: %v", text, err)
		}
	}
}

// A device that names a log by a digest that is not held gets no pass, and is
// asked for everything.
func TestLogThatIsNotHeld(t *testing.T) {
	w := newWorld(t, nil)
	w.heard(presence.Online, boot)
	got, _ := w.take(w.evidence(w.asked(0), nil))
	w.want(got, "affirming")
	second := w.asked(2 * time.Hour)
	w.restart() // forgets the log
	w.heard(presence.Online, boot)
	got, v := w.take(w.evidence(second, nil))
	if v.Verdict != appraisal.None {
		t.Errorf("%s", got)
	}
	third := w.asked(20 * time.Second)
	if third.Boot != "" {
		t.Errorf("asked for parts: %+v", third)
	}
	got, _ = w.take(w.evidence(third, nil))
	w.want(got, "affirming")
	if c, _ := w.look(30 * time.Minute); c != nil {
		t.Error("asked again after a whole answer")
	}
}

// A fleet that begins to listen asks its devices one after the other, not all at
// once.
func TestManyDevicesAreAskedInTurn(t *testing.T) {
	w := newWorld(t, nil)
	const devices = 450
	for i := range devices {
		w.v.Heard(w.now, presence.Status{State: presence.Online, Tenant: tenant, Device: fmt.Sprint("pump-", i), Boot: boot})
	}
	asked := make(map[string]bool)
	for _, want := range []int{200, 200, 50, 0} {
		w.now = w.now.Add(time.Second)
		ask, _, err := w.v.Look(w.now)
		if err != nil || len(ask) != want {
			t.Errorf("%d questions, want %d; %v", len(ask), want, err)
		}
		for _, q := range ask {
			asked[q.Device] = true
		}
	}
	if len(asked) != devices {
		t.Errorf("%d devices were asked", len(asked))
	}
}

// The record that the quotes sign is the one that the fleet holds.
func TestForkedRecord(t *testing.T) {
	for hash, want := range map[chain.Hash]string{{9}: "affirming", {8}: "contraindicated link.sequence-gap"} {
		w := newWorld(t, nil)
		b, err := evidence.Encode(w.evidence(nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		parts, err := evidence.Split([16]byte{1}, b)
		if err != nil {
			t.Fatal(err)
		}
		say := w.v.Take(w.now, tenant, name, parts[0], func(epoch, sequence uint64) (chain.Hash, bool) { return hash, epoch == 1 && sequence == 9 })
		w.want(said(say), want)
	}
}
