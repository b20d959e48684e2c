package enrolment_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

// capture is a request of a software TPM (swtpm 0.7.1) with certificates by
// swtpm_localca.
type capture struct {
	Request   json.RawMessage `json:"request"`
	Makers    [][]byte        `json:"makers"`
	PolicyKey []byte          `json:"policyKey"`
}

func readCapture(t testing.TB, name string) (enrolment.Request, enrolment.Terms) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var c capture
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	r, err := enrolment.ParseRequest(c.Request)
	if err != nil {
		t.Fatal(err)
	}
	terms := enrolment.Terms{Now: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, der := range c.Makers {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		terms.Makers = append(terms.Makers, cert)
	}
	public, err := x509.ParsePKIXPublicKey(c.PolicyKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := policy.NewKey(public.(*ecdsa.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	terms.PolicyKey = &key
	return r, terms
}

// Requests of real TPM software are verified, and are of one TPM, whichever of its
// endorsement keys vouches for it.
//
// Verifies: SR-032
func TestCapturedRequests(t *testing.T) {
	var proofs []*enrolment.Proof
	for _, name := range []string{"swtpm-p384.json", "swtpm-rsa2048.json"} {
		r, terms := readCapture(t, name)
		p, err := r.Verify(terms)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Serial() != "SN-0001" || p.Key(enrolment.Reporting) == nil || p.Key(enrolment.Service) == nil {
			t.Errorf("%s: %+v", name, p)
		}
		proofs = append(proofs, p)
	}
	if !proofs[0].AK().Equal(proofs[1].AK()) || proofs[0].EK() == proofs[1].EK() {
		t.Error("one attestation key and two endorsement keys were captured")
	}
}

// BenchmarkVerify is the registrar's part of an enrolment: judging the request and
// making the credential.
func BenchmarkVerify(b *testing.B) {
	r, terms := readCapture(b, "swtpm-rsa2048.json")
	for b.Loop() {
		p, err := r.Verify(terms)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := p.Credential(rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}
