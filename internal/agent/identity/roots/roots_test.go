package roots_test

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/agent/identity/roots"
	"ward/internal/trust/serverauth/serverauthtest"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func certs(c ...*x509.Certificate) []*x509.Certificate { return c }

func reparse(t *testing.T, der [][]byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// Verifies: SR-046
func TestRollover(t *testing.T) {
	old, next, third := serverauthtest.NewAuthority(t, "fleet", now), serverauthtest.NewAuthority(t, "fleet", now), serverauthtest.NewAuthority(t, "fleet 3", now)
	image := certs(old.Cert)

	learned, changed := roots.Learn(image, nil, certs(old.Cert, next.Cert, old.Vouch(t, next)), now)
	if len(learned) != 1 || !changed || !learned[0].Root.Equal(next.Cert) {
		t.Fatalf("learned %d, changed %v", len(learned), changed)
	}
	stored := reparse(t, roots.Flat(learned))
	if _, changed := roots.Learn(image, stored, certs(old.Cert, next.Cert, old.Vouch(t, next)), now); changed {
		t.Error("the same again is a change: it would be written every week")
	}
	// The next one is vouched for by the one that was learned.
	learned, changed = roots.Learn(image, stored, certs(third.Cert, next.Vouch(t, third)), now)
	if len(learned) != 2 || !changed || !learned[1].Root.Equal(third.Cert) {
		t.Fatalf("learned %d, changed %v", len(learned), changed)
	}
	stored = reparse(t, roots.Flat(learned))
	if got := roots.Accept(image, stored); len(got) != 2 {
		t.Errorf("read again: %d", len(got))
	}
	// An image that no longer has the old root believes nothing that it vouched
	// for, also not through another.
	if got := roots.Accept(certs(serverauthtest.NewAuthority(t, "other", now).Cert), stored); len(got) != 0 {
		t.Errorf("without the old root %d are believed", len(got))
	}
	// An image that has the new root needs no voucher; it is not stored any more.
	learned, changed = roots.Learn(certs(old.Cert, next.Cert), stored, nil, now)
	if len(learned) != 1 || !changed || !learned[0].Root.Equal(third.Cert) {
		t.Errorf("with the new root in the image: %d, %v", len(learned), changed)
	}
	// What has expired goes.
	if learned, _ = roots.Learn(image, stored, nil, now.AddDate(6, 0, 0)); len(learned) != 0 {
		t.Errorf("%d expired roots are kept", len(learned))
	}
}

// Verifies: SR-046
func TestWhatIsNotLearned(t *testing.T) {
	old, next, stranger := serverauthtest.NewAuthority(t, "fleet", now), serverauthtest.NewAuthority(t, "new", now), serverauthtest.NewAuthority(t, "fleet", now)
	same := serverauthtest.NewAuthority(t, "new", now)
	leaf := old.Certify(t, &x509.Certificate{Subject: next.Cert.Subject, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)}, next.Cert.PublicKey)
	for name, offered := range map[string][]*x509.Certificate{
		"without a voucher":                      certs(next.Cert),
		"a voucher alone":                        certs(old.Vouch(t, next)),
		"vouched for by a stranger of that name": certs(next.Cert, stranger.Vouch(t, next)),
		"a voucher for another key":              certs(next.Cert, old.Vouch(t, same)),
		"a voucher that is no authority's":       certs(next.Cert, leaf),
		"two that vouch for each other":          certs(next.Cert, stranger.Cert, stranger.Vouch(t, next), next.Vouch(t, stranger)),
		"a device's certificate":                 certs(leaf, old.Vouch(t, next)),
	} {
		if learned, changed := roots.Learn(certs(old.Cert), nil, offered, now); len(learned) != 0 || changed {
			t.Errorf("%s: learned %d, changed %v", name, len(learned), changed)
		}
	}
	early := now.AddDate(-20, 0, 0)
	if learned, _ := roots.Learn(certs(old.Cert), nil, certs(next.Cert, old.Vouch(t, next)), early); len(learned) != 0 {
		t.Error("a root that is not valid yet is learned")
	}
}

func TestAtMostFour(t *testing.T) {
	old := serverauthtest.NewAuthority(t, "fleet", now)
	var offered []*x509.Certificate
	for range 6 {
		next := serverauthtest.NewAuthority(t, "next", now)
		offered = append(offered, next.Cert, old.Vouch(t, next))
	}
	learned, _ := roots.Learn(certs(old.Cert), nil, offered, now)
	if len(learned) != roots.MaxLearned {
		t.Errorf("learned %d", len(learned))
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := roots.Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	a := serverauthtest.NewAuthority(t, "fleet", now)
	file := filepath.Join(dir, "a.pem")
	if err := os.WriteFile(file, append(a.PEM(), a.PEM()...), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := roots.Read(dir); err != nil || len(got) != 2 {
		t.Errorf("%d roots, %v", len(got), err)
	}
	for _, bad := range [][]byte{[]byte("hello"), make([]byte, 1<<17), a.PEM()[:100], append(a.PEM(), 'x')} {
		if err := os.WriteFile(filepath.Join(dir, "b.pem"), bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := roots.Read(dir); err == nil || got != nil {
			t.Errorf("%d roots with a bad file beside", len(got))
		}
	}
}
