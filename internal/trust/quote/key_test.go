package quote_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"ward/internal/trust/quote"
	"ward/internal/trust/quote/quotetest"
)

// area is a TPMT_PUBLIC (TPM 2.0 Library, Part 2, section 12.2.4) of a P-256 key.
func area(t testing.TB, key *ecdsa.PublicKey, attributes uint32, scheme ...uint16) []byte {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	b := be.AppendUint16(nil, 0x0023)
	b = be.AppendUint16(b, 0x000b)
	b = be.AppendUint32(b, attributes)
	b = be.AppendUint16(b, 0)      // policy
	b = be.AppendUint16(b, 0x0010) // symmetric
	for _, v := range scheme {
		b = be.AppendUint16(b, v)
	}
	b = be.AppendUint16(b, 0x0003) // curve
	b = be.AppendUint16(b, 0x0010) // key derivation
	for _, c := range [][]byte{point[1:33], point[33:]} {
		b = append(be.AppendUint16(b, 32), c...)
	}
	return b
}

// attributes of an attestation key: fixedTPM, fixedParent, sensitiveDataOrigin,
// userWithAuth, noDA, restricted, sign.
const attributes = 0x00050472

// Verifies: SR-007
func TestParseKey(t *testing.T) {
	key := quotetest.Key(t)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ak"}, NotAfter: time.Unix(1, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	armour := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	tpmt := area(t, &key.PublicKey, attributes, 0x0018, 0x000b)
	tpm2b := append(binary.BigEndian.AppendUint16(nil, uint16(len(tpmt))), tpmt...)
	for name, b := range map[string][]byte{
		"PEM": armour("PUBLIC KEY", spki), "DER": spki, "certificate": armour("CERTIFICATE", cert), "DER certificate": cert,
		"TPMT_PUBLIC": tpmt, "TPM2B_PUBLIC": tpm2b, "no scheme": area(t, &key.PublicKey, attributes, 0x0010),
	} {
		if got, err := quote.ParseKey(b); err != nil || !got.Equal(&key.PublicKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	off := bytes.Clone(tpmt)
	off[len(off)-1] ^= 1
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("no key"), "a private key": armour("EC PRIVATE KEY", spki), "P-384": other,
		"RSA":            x509.MarshalPKCS1PublicKey(&weak.PublicKey),
		"not restricted": area(t, &key.PublicKey, attributes&^(1<<16), 0x0018, 0x000b),
		"not signing":    area(t, &key.PublicKey, attributes&^(1<<18), 0x0018, 0x000b),
		"not fixed":      area(t, &key.PublicKey, attributes&^(1<<1), 0x0018, 0x000b),
		"another scheme": area(t, &key.PublicKey, attributes, 0x001a, 0x000b),
		"another hash":   area(t, &key.PublicKey, attributes, 0x0018, 0x0004),
		"off the curve":  off,
		"a byte behind":  append(bytes.Clone(tpmt), 0),
		"long":           make([]byte, 1<<20),
	} {
		if got, err := quote.ParseKey(b); !errors.Is(err, quote.ErrKey) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for n := range tpm2b {
		if _, err := quote.ParseKey(tpm2b[:n]); !errors.Is(err, quote.ErrKey) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	key := quotetest.Key(f)
	tpmt := area(f, &key.PublicKey, attributes, 0x0018, 0x000b)
	f.Add(tpmt)
	f.Add(append(binary.BigEndian.AppendUint16(nil, uint16(len(tpmt))), tpmt...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := quote.ParseKey(b); err == nil && key.Curve != elliptic.P256() {
			t.Fatal("a key on another curve")
		}
	})
}
