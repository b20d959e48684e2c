package tpm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

// makersOf are the certificates of the authority that swtpm_localca made for a TPM
// that startTPM manufactured: a root and what it signs EK certificates with.
func makersOf(t testing.TB, socket string) []*x509.Certificate {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(socket), "ca", "*cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var makers []*x509.Certificate
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		makers = append(makers, cert)
	}
	if len(makers) != 2 {
		t.Fatalf("%d certificates of the maker's in %v, want root and issuer", len(makers), files)
	}
	return makers
}

// request has a device's TPM say what enrolment asks for.
func (d *device) request(t testing.TB, ek tpm.Endorsement) enrolment.Request {
	t.Helper()
	r := enrolment.Request{
		Version: enrolment.Version, Tenant: "acme", Serial: "SN-0001",
		EK: enrolment.Endorsement{Certificate: ek.Certificate, Chain: ek.Chain}, AK: d.keys.AK.Area,
	}
	boot := policy.BootPolicy(d.key)
	for use, digest := range map[enrolment.Use]*policy.Digest{enrolment.Reporting: nil, enrolment.Service: &boot} {
		blob, err := d.CreateKey(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.CertifyKey(t.Context(), blob)
		if err != nil {
			t.Fatal(err)
		}
		r.Keys = append(r.Keys, enrolment.Key{Use: use, Public: blob.Public, Attest: c.Attest, Signature: c.Signature})
	}
	return r
}

// A TPM with the certificates of swtpm's maker, P-384 and RSA-2048, enrols: its
// request is verified, it opens the credential and the answer, and no other TPM
// does.
//
// Verifies: SR-032
func TestEnrolmentOfAManufacturedTPM(t *testing.T) {
	socket := startTPM(t, true)
	d := manufacture2(t, open(t, socket), socket)
	stranger := startTPM(t, true)
	other := manufacture2(t, open(t, stranger), stranger)
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	terms := enrolment.Terms{Makers: makersOf(t, socket), PolicyKey: &d.key, Now: time.Now().Add(time.Minute)}
	for _, index := range []uint32{0x01c00016, 0x01c00002} {
		ek, err := d.Endorsement(t.Context())
		if err != nil || ek.Profile.Certificate != index {
			t.Fatalf("%s, %v", ek.Profile.Name, err)
		}
		enrol(t, d, other, ek, terms)
		remove(t, conn, tpm2.TPMRHPlatform, index)
	}
}

func enrol(t *testing.T, d, other *device, ek tpm.Endorsement, terms enrolment.Terms) {
	t.Helper()
	sent, err := enrolment.EncodeRequest(d.request(t, ek))
	if err != nil {
		t.Fatal(err)
	}
	r, err := enrolment.ParseRequest(sent)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := r.Verify(terms)
	if err != nil {
		t.Fatalf("%s: %v", ek.Profile.Name, err)
	}
	if !proof.AK().Equal(d.keys.AK.Public) || proof.Key(enrolment.Reporting) == nil || proof.Key(enrolment.Service) == nil {
		t.Errorf("%s: %+v", ek.Profile.Name, proof)
	}
	blob, secret, err := proof.Credential(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Activate(t.Context(), ek, tpm.HandleAK, blob); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%s: activated %x, %v", ek.Profile.Name, got, err)
	}
	want := enrolment.Issued{Tenant: "acme", Device: "SN-0001", Chains: map[enrolment.Use][][]byte{enrolment.Reporting: {[]byte("certificate")}}}
	answer, err := proof.Seal(rand.Reader, want)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := d.Activate(t.Context(), ek, tpm.HandleAK, answer.Credential)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := answer.Open(opened); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: opened %+v, %v", ek.Profile.Name, got, err)
	}
	if got, err := other.Activate(t.Context(), ek, tpm.HandleAK, answer.Credential); !errors.Is(err, tpm.ErrCredential) {
		t.Errorf("%s: another TPM opened %x, %v", ek.Profile.Name, got, err)
	}
	if _, err := answer.Open(secret); !errors.Is(err, enrolment.ErrOtherTPM) {
		t.Errorf("%s: opened with another secret: %v", ek.Profile.Name, err)
	}
	// Another TPM of the same kind, of a maker that is not trusted.
	theirs, err := other.Endorsement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.request(t, theirs).Verify(terms); !errors.Is(err, enrolment.ErrEKUntrusted) {
		t.Errorf("%s: a TPM of another maker: %v", ek.Profile.Name, err)
	}
	// It puts this device's certificate before its own keys: the request is good, and
	// the credential goes to this device.
	mixed := other.request(t, ek)
	terms.PolicyKey = &other.key
	stolen, err := mixed.Verify(terms)
	if err != nil {
		t.Fatal(err)
	}
	blob, _, err = stolen.Credential(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, thief := range map[string]*device{"the other TPM": other, "this TPM": d} {
		if got, err := thief.Activate(t.Context(), ek, tpm.HandleAK, blob); !errors.Is(err, tpm.ErrCredential) {
			t.Errorf("%s: %s opened a credential for a foreign attestation key: %x, %v", ek.Profile.Name, name, got, err)
		}
	}
}
