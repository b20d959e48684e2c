package verifier_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"ward/internal/fleet/verifier"
	"ward/internal/trust/appraisal/appraisaltest"
)

// Verifies: SR-006
func TestLoadReleases(t *testing.T) {
	d := appraisaltest.New(t)
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	manifest, list, key := put("release.dsse", d.Envelope(t)), put("baseline", d.Baseline), put("key.pem", appraisaltest.KeyPEM(t, d.Key))
	all, err := verifier.LoadReleases([]string{manifest}, []string{list}, []string{key}, 1)
	if err != nil {
		t.Fatal(err)
	}
	digest := d.Verified(t).Digest()
	if r := all[string(digest[:])]; len(all) != 1 || r.Version != "1.0.0" || r.Baseline == nil || r.Baseline.Digest() != sha256.Sum256(d.Baseline) {
		t.Errorf("%+v", r)
	}
	if all, err := verifier.LoadReleases(nil, nil, nil, 1); err != nil || len(all) != 0 {
		t.Errorf("nothing: %v, %v", all, err)
	}
	for name, f := range map[string]func() error{
		"another key": func() error {
			_, err := verifier.LoadReleases([]string{manifest}, nil, []string{put("other.pem", appraisaltest.KeyPEM(t, appraisaltest.Key(2)))}, 1)
			return err
		},
		"no key":         func() error { _, err := verifier.LoadReleases([]string{manifest}, nil, nil, 1); return err },
		"two signatures": func() error { _, err := verifier.LoadReleases([]string{manifest}, nil, []string{key}, 2); return err },
		"a baseline that nobody names": func() error {
			_, err := verifier.LoadReleases([]string{manifest}, []string{put("b2", []byte("x"))}, []string{key}, 1)
			return err
		},
		"no file": func() error { _, err := verifier.LoadReleases([]string{"none"}, nil, []string{key}, 1); return err },
	} {
		if f() == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}
