package verifier_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/fleet/verifier"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/quote/quotetest"
)

// Verifies: SR-031
func TestRegistry(t *testing.T) {
	dir := t.TempDir()
	r, err := verifier.NewRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.NewRegistry(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there was opened")
	}
	one, two := publicPEM(t, &quotetest.Key(t).PublicKey), publicPEM(t, &quotetest.Key(t).PublicKey)
	for _, c := range []struct {
		name    string
		device  string
		key     []byte
		replace bool
		reason  string
		want    string // act, or what the error says
	}{
		{"first", "pump-1", one, false, "", "add"},
		{"the same again", "pump-1", one, false, "", ""},
		{"another", "pump-1", two, false, "", "another attestation key is registered"},
		{"another without a reason", "pump-1", two, true, "", "takes a reason"},
		{"another with a reason of two lines", "pump-1", two, true, "a\nb", "takes a reason"},
		{"the key of another device", "pump-2", one, false, "", "another device's: pump-1 of acme"},
		{"replaced", "pump-1", two, true, "main board", "replace"},
		{"the old key is free", "pump-2", one, false, "", "add"},
		{"a name that leads elsewhere", "../pump", one, false, "", "letters, digits"},
		{"no key", "pump-3", []byte("hello"), false, "", "not an attestation key"},
		{"replace where there is none", "pump-3", publicPEM(t, &quotetest.Key(t).PublicKey), true, "", "add"},
	} {
		act, err := r.Register(begin, "acme", c.device, c.key, c.replace, c.reason)
		switch {
		case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err == nil && act == nil && c.want != "", err == nil && act != nil && act.Act != c.want:
			t.Errorf("%s: %+v, want %q", c.name, act, c.want)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "acts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 4 || !strings.Contains(lines[1], `"act":"replace"`) || !strings.Contains(lines[1], `"reason":"main board"`) {
		t.Errorf("record of acts:\n%s", b)
	}
	k, err := r.Lookup(begin, "acme", "pump-1")
	if err != nil || k == nil || !strings.Contains(lines[1], k.ID) {
		t.Errorf("%+v, %v", k, err)
	}
	// A file that somebody took away leaves the device its key.
	if err := os.Remove(filepath.Join(dir, "acme", "pump-1.ak.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Register(begin, "acme", "pump-1", publicPEM(t, &quotetest.Key(t).PublicKey), false, ""); !errors.Is(err, verifier.ErrOtherKey) {
		t.Errorf("registered another key where the file was taken away: %v", err)
	}
	if act, err := r.Register(begin, "acme", "pump-1", two, false, ""); err != nil || act == nil || act.Act != "add" {
		t.Errorf("the key that was taken away: %+v, %v", act, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "acts.jsonl"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Register(begin, "acme", "pump-7", publicPEM(t, &quotetest.Key(t).PublicKey), false, ""); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a record of acts that cannot be read: %v", err)
	}
	if k, err := r.Lookup(begin, "acme", "pump-9"); k != nil || err != nil {
		t.Errorf("a device that is not registered: %+v, %v", k, err)
	}
}

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
