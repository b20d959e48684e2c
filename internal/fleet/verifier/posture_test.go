package verifier_test

import (
	"testing"
	"time"

	"ward/internal/fleet/verifier"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/posture"
	"ward/internal/trust/presence"
)

// The fleet judges the posture that comes with an answer, and says when it is as the
// release expects again.
//
// Verifies: SR-096
func TestPosture(t *testing.T) {
	d := appraisaltest.New(t)
	d.Manifest.Posture = &posture.Policy{Rules: []posture.Rule{{Claim: posture.Sockets, Mode: posture.Within, Values: []string{"tcp 0.0.0.0:8443 /usr/bin/pump"}}}}
	verified := d.Verified(t)
	digest := verified.Digest()
	w := newWorld(t, func(c *verifier.Config) {
		c.Releases = verifier.Releases{string(digest[:]): {Verified: verified, Version: "1.0.0", Baseline: d.Index(t)}}
	})
	w.d.Manifest.Posture = d.Manifest.Posture
	w.heard(presence.Online, boot)
	for _, c := range []struct {
		sockets []string
		said    string
		claim   appraisal.Tier
	}{
		{[]string{"tcp 0.0.0.0:8443 /usr/bin/pump"}, "affirming", appraisal.Affirming},
		{[]string{"tcp 0.0.0.0:4444 /usr/~0123456789ab", "tcp 0.0.0.0:8443 /usr/bin/pump"}, "contraindicated posture.socket-unknown", appraisal.Contraindicated},
		{nil, "affirming", appraisal.Affirming},
	} {
		got, v := w.take(w.evidence(w.asked(2*time.Hour), func(e *evidence.Evidence) {
			e.Release = digest[:]
			e.SetPosture([]posture.Claim{{Name: posture.Sockets, Values: c.sockets}})
		}))
		w.want(got, c.said)
		if v.Claims[appraisal.ClaimPosture] != c.claim {
			t.Errorf("claims %v", v.Claims)
		}
		w.look(0)
	}
}
