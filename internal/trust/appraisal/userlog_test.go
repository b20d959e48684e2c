package appraisal_test

import (
	"bytes"
	"fmt"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// phase is a record of systemd's log of what user space measured, as its
// documentation has it, with the digest of the text.
func phase(index int, text string) string {
	return fmt.Sprintf("\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%s\"}],\"content_type\":\"systemd\",\"content\":{\"eventType\":\"phase\",\"string\":%q}}\n",
		index, pcr.SHA256.Sum([]byte(text)), text)
}

// Pitfall 15. User space extends registers after the firmware, and its records
// stand in a log of its own. One replay explains both; what was extended is
// compared with the release as the firmware left it, and user space's part with
// what the release names for it, as far as the device has come.
//
// Verifies: SR-001 SR-002
func TestPitfall15UserSpaceGoesOn(t *testing.T) {
	released := []string{"enter-initrd", "leave-initrd", "sysinit"}
	for name, c := range map[string]struct {
		extended, logged []string // into PCR 11
		change           func(*evidence.Evidence)
		verdict          appraisal.Tier
		want             []finding.Code
	}{
		"nothing yet":             {nil, nil, nil, appraisal.Affirming, nil},
		"on the way":              {released[:1], released[:1], nil, appraisal.Affirming, nil},
		"all of it":               {released, released, nil, appraisal.Affirming, nil},
		"more than released":      {append(released[:3:3], "ready"), append(released[:3:3], "ready"), nil, appraisal.Contraindicated, []finding.Code{finding.UserEvent}},
		"something else":          {[]string{"rescue"}, []string{"rescue"}, nil, appraisal.Contraindicated, []finding.Code{finding.UserEvent}},
		"extended and not logged": {released[:1], nil, nil, appraisal.Contraindicated, []finding.Code{finding.BootPCRUnexplained, finding.BootPCRDiffers}},
		"logged and not extended": {nil, released[:1], nil, appraisal.Contraindicated, []finding.Code{finding.BootPCRUnexplained}},
		"log unreadable": {released[:1], nil, func(e *evidence.Evidence) { e.UserLogError = "permission denied" },
			appraisal.None, []finding.Code{finding.UserLogUnreadable}},
		"log no log": {nil, nil, func(e *evidence.Evidence) { e.UserLog = []byte("no log") },
			appraisal.None, []finding.Code{finding.UserLogUnreadable}},
		"log cut": {released[:1], released[:1], func(e *evidence.Evidence) { e.UserLog = append(e.UserLog, phase(11, "later")[:20]...) },
			appraisal.Warning, []finding.Code{finding.UserLogUnreadable}},
	} {
		t.Run(name, func(t *testing.T) {
			d := appraisaltest.New(t)
			ref := d.Manifest.Boot.PCRs[11]
			for _, text := range released {
				ref.UserEvents = append(ref.UserEvents, release.ReferenceEvent{Type: "phase", Digest: pcr.SHA256.Sum([]byte(text)), Text: text})
			}
			d.Manifest.Boot.PCRs[11] = ref
			bank, err := pcr.NewBank(pcr.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if err := bank.Resume(11, d.PCRs[11]); err != nil {
				t.Fatal(err)
			}
			for _, text := range c.extended {
				if err := bank.Extend(11, pcr.SHA256.Sum([]byte(text))); err != nil {
					t.Fatal(err)
				}
			}
			d.PCRs[11] = bank.Value(11)
			e := d.Evidence()
			for _, text := range c.logged {
				e.UserLog = append(e.UserLog, phase(11, text)...)
			}
			if c.change != nil {
				c.change(&e)
			}
			r := appraise(t, d, e)
			wantVerdict(t, r, c.verdict, c.want...)
			if c.verdict == appraisal.Affirming && r.PCRs[11].State != appraisal.Matches {
				t.Errorf("PCR 11: %s", r.PCRs[11].State)
			}
			if !bytes.Equal(r.PCRs[11].Measured, d.PCRs[11]) {
				t.Errorf("PCR 11 is shown as %s", r.PCRs[11].Measured)
			}
		})
	}
}
