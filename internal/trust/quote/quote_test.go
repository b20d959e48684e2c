package quote_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/quote"
)

// captured is a quote of a software TPM, with what it is about.
func captured(t testing.TB) (quote.Quote, *ecdsa.PublicKey, pcr.Values) {
	t.Helper()
	b, err := os.ReadFile("testdata/swtpm.json")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		AK, Attest, Signature pcr.Digest
		Values                pcr.Values
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(c.AK)
	if err != nil {
		t.Fatal(err)
	}
	return quote.Quote{Attest: c.Attest, Signature: c.Signature}, key.(*ecdsa.PublicKey), c.Values
}

var question = quote.Qualifying([]byte("nonce"), chain.Hash{1}, [32]byte{2})

// TestGolden: printf of the domain, 00000005, "nonce", the head 01 00… and the
// claims 02 00…, through sha256sum.
func TestGolden(t *testing.T) {
	const want = "804d323def3e1c123270ef7f18731c8dbb8c962eeeef230ba83d998006b6f01e"
	if got := pcr.Digest(question[:]).String(); got != want {
		t.Errorf("qualifying data %s, want %s", got, want)
	}
	q, ak, values := captured(t)
	v, err := quote.Verify(q, ak, question, pcr.SHA256, values)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Values()) != 4 || v.Bank() != pcr.SHA256 {
		t.Errorf("verified %v of bank %s", v.Values(), v.Bank())
	}
	if len((quote.Verified{}).Values()) != 0 {
		t.Error("the zero value vouches for registers")
	}
}

// TestEveryBitCounts flips each bit and cuts at each byte.
//
// Verifies: SR-001, SR-007
func TestEveryBitCounts(t *testing.T) {
	q, ak, values := captured(t)
	verify := func(q quote.Quote) error {
		_, err := quote.Verify(q, ak, question, pcr.SHA256, values)
		return err
	}
	for i := range 8 * len(q.Attest) {
		bad := quote.Quote{Attest: bytes.Clone(q.Attest), Signature: q.Signature}
		bad.Attest[i/8] ^= 1 << (i % 8)
		if verify(bad) == nil {
			t.Errorf("bit %d of the attestation does not count", i)
		}
	}
	for i := range 8 * len(q.Signature) {
		bad := quote.Quote{Attest: q.Attest, Signature: bytes.Clone(q.Signature)}
		bad.Signature[i/8] ^= 1 << (i % 8)
		if verify(bad) == nil {
			t.Errorf("bit %d of the signature does not count", i)
		}
	}
	for i := range q.Signature {
		if err := verify(quote.Quote{Attest: q.Attest, Signature: q.Signature[:i]}); err == nil {
			t.Errorf("a signature of %d bytes is accepted", i)
		}
	}
	if err := verify(quote.Quote{Attest: q.Attest, Signature: append(bytes.Clone(q.Signature), 0)}); !errors.Is(err, quote.ErrMalformed) {
		t.Errorf("a byte behind the signature gives %v", err)
	}
	rsa := append([]byte{0, 0x14}, q.Signature[2:]...) // TPM_ALG_RSASSA
	if err := verify(quote.Quote{Attest: q.Attest, Signature: rsa}); !errors.Is(err, quote.ErrSignature) {
		t.Errorf("another algorithm gives %v", err)
	}
	if err := verify(quote.Quote{}); err == nil {
		t.Error("nothing at all is accepted")
	}
	if _, err := quote.Verify(q, nil, question, pcr.SHA256, values); !errors.Is(err, quote.ErrSignature) {
		t.Errorf("no key gives %v", err)
	}
}
