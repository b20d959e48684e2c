package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"ward/internal/daemon/chip"
	"ward/internal/trust/policy"
	"ward/internal/trust/release/releasetest"
)

// What the policy key signed counts as soon as the manifest can be read, before
// the boot was appraised; a manifest by another policy key approves nothing.
//
// Verifies: SR-037
func TestApprovalsOfTheManifest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "release.dsse")
	approvals := chip.ApprovalsOf(file)
	if got, err := approvals(releasetest.PolicyKey(t)); err == nil || len(got) > 0 {
		t.Errorf("without a manifest: %v, %v", got, err)
	}
	plain := releasetest.Manifest("1.0.0", 1, releasetest.Values(7, 11, 12))
	for name, c := range map[string]struct {
		envelope []byte
		want     int
		fails    bool
	}{
		"no identity policy": {releasetest.Envelope(t, plain), 0, false},
		"approved":           {releasetest.Envelope(t, releasetest.Approved(t, plain)), 1, false},
		"no manifest":        {[]byte("hello"), 0, true},
	} {
		if err := os.WriteFile(file, c.envelope, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := approvals(releasetest.PolicyKey(t))
		if len(got) != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d approvals, %v", name, len(got), err)
		}
	}
	if err := os.WriteFile(file, releasetest.Envelope(t, releasetest.Approved(t, plain)), 0o644); err != nil {
		t.Fatal(err)
	}
	stranger, err := policy.NewKey(&releasetest.Key(t, 9).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := approvals(stranger); err == nil || len(got) > 0 {
		t.Errorf("by another policy key: %v, %v", got, err)
	}
}
