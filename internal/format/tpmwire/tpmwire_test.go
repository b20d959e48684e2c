package tpmwire_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/format/tpmwire"
)

// area is what a software TPM made for Ward's reporting key.
const area = "0023000b00040472000000100018000b000300100020" +
	"95aed6f3a20e5989986d33e30dd56fbf4d11ef752973f8da76a8857f964d8c7d" +
	"00200cebedf66faa0b4e4db45b3bf88c8b3542cc4fb5f561ae52b393c4fb5e96b247"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// go-tpm reads the same from the same bytes.
func TestPublicAgreesWithGoTPM(t *testing.T) {
	b := unhex(t, area)
	got, err := tpmwire.ParsePublic(b)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil {
		t.Fatal(err)
	}
	name, err := tpm2.ObjectName(theirs)
	if err != nil || !bytes.Equal(got.Name, name.Buffer) {
		t.Errorf("name %x, go-tpm %x, %v", got.Name, name.Buffer, err)
	}
	key, err := tpm2.Pub(*theirs)
	if err != nil || !got.Key.Equal(key) {
		t.Errorf("key %v, go-tpm %v, %v", got.Key, key, err)
	}
	const want = "fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign"
	if got.Attributes.String() != want || got.Scheme != tpmwire.AlgECDSA || len(got.Policy) != 0 {
		t.Errorf("%+v, attributes %s", got, got.Attributes)
	}
	if s := tpmwire.Attributes(1<<31).String() + " " + tpmwire.Attributes(0).String(); s != "80000000 none" {
		t.Errorf("attributes without a name: %s", s)
	}
}

func TestBadPublic(t *testing.T) {
	changed := func(at int, b ...byte) []byte {
		out := unhex(t, area)
		copy(out[at:], b)
		return out
	}
	good := unhex(t, area)
	for _, c := range []struct {
		name string
		area []byte
		want string
	}{
		{"nothing", nil, "no type"},
		{"RSA", changed(0, 0, 1), "type 0001"},
		{"named by SHA-384", changed(2, 0, 0x0c), "algorithm 000c"},
		{"a long policy", changed(8, 0, 65), "no policy"},
		{"storage", changed(10, 0, 6), "storage key"},
		{"ECDAA", changed(12, 0, 0x1a), "scheme 001a"},
		{"SHA-1", changed(14, 0, 4), "hash 0004"},
		{"P-384", changed(16, 0, 4), "curve 0004"},
		{"key derivation", changed(18, 0, 7), "derivation 0007"},
		{"off the curve", changed(30, 0), "not on the curve"},
		{"a long coordinate", changed(20, 0, 33), "no x"},
		{"cut", good[:len(good)-1], "no y"},
		{"bytes behind", append(bytes.Clone(good), 0), "1 bytes behind"},
	} {
		if _, err := tpmwire.ParsePublic(c.area); !errors.Is(err, tpmwire.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrFormat with %q", c.name, err, c.want)
		}
	}
	for n := range good {
		if _, err := tpmwire.ParsePublic(good[:n]); !errors.Is(err, tpmwire.ErrFormat) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// Coordinates without their leading zeros are the same point (Part 1, section
// C.8, demands them; older TPMs leave them out).
func TestShortCoordinate(t *testing.T) {
	for range 10000 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] != 0 {
			continue
		}
		b := unhex(t, area[:40])
		b = append(append(b, 0, 31), point[2:33]...)
		b = append(append(b, 0, 32), point[33:]...)
		got, err := tpmwire.ParsePublic(b)
		if err != nil || !got.Key.Equal(&key.PublicKey) {
			t.Errorf("%v, %v", got.Key, err)
		}
		return
	}
	t.Fatal("no key with a leading zero")
}

// certify is an attestation as go-tpm writes it.
func certify(name []byte) []byte {
	return tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestCertify, QualifiedSigner: tpm2.TPM2BName{Buffer: make([]byte, 34)},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{
			Name: tpm2.TPM2BName{Buffer: name}, QualifiedName: tpm2.TPM2BName{Buffer: make([]byte, 34)},
		}),
	})
}

func TestCertify(t *testing.T) {
	name := bytes.Repeat([]byte{7}, 34)
	good := certify(name)
	if got, err := tpmwire.ParseCertify(good); err != nil || !bytes.Equal(got, name) {
		t.Fatalf("%x, %v", got, err)
	}
	changed := func(at int, b ...byte) []byte { out := bytes.Clone(good); copy(out[at:], b); return out }
	for _, c := range []struct {
		name   string
		attest []byte
		want   string
	}{
		{"not made by the TPM", changed(0, 0), "magic 00544347: no TPM made it"},
		{"a quote", changed(4, 0x80, 0x18), "type 8018"},
		{"a long name of the signer", changed(6, 1), "signer's name"},
		{"a long name", certify(make([]byte, 67)), "no name"},
		{"bytes behind", append(bytes.Clone(good), 1), "1 bytes behind"},
	} {
		if _, err := tpmwire.ParseCertify(c.attest); !errors.Is(err, tpmwire.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrFormat with %q", c.name, err, c.want)
		}
	}
	for n := range good {
		if _, err := tpmwire.ParseCertify(good[:n]); !errors.Is(err, tpmwire.ErrFormat) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// sign signs bytes as a TPM does.
func sign(t testing.TB, key *ecdsa.PrivateKey, b []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(b)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()},
	})})
}

func TestSignature(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, key, []byte("signed"))
	s, err := tpmwire.ParseSignature(good)
	if err != nil || !s.Verify(&key.PublicKey, []byte("signed")) {
		t.Fatalf("%+v, %v", s, err)
	}
	if s.Verify(&key.PublicKey, []byte("Signed")) || s.Verify(&other.PublicKey, []byte("signed")) || s.Verify(nil, []byte("signed")) || (tpmwire.Signature{}).Verify(&key.PublicKey, []byte("signed")) {
		t.Error("a signature over other bytes, by a key of another curve, by none, or of nothing was taken")
	}
	for _, c := range []struct {
		name      string
		signature []byte
		want      string
	}{
		{"RSASSA", append([]byte{0, 0x14}, good[2:]...), "algorithm: 0014"},
		{"SHA-1", append([]byte{0, 0x18, 0, 4}, good[4:]...), "hash 0004"},
		{"a long scalar", append([]byte{0, 0x18, 0, 0x0b, 0, 33}, make([]byte, 70)...), "no r"},
		{"bytes behind", append(bytes.Clone(good), 0), "1 bytes behind"},
		{"nothing", nil, "no algorithm"},
	} {
		_, err := tpmwire.ParseSignature(c.signature)
		if !errors.Is(err, tpmwire.ErrFormat) || errors.Is(err, tpmwire.ErrAlgorithm) != strings.Contains(c.want, "00") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrFormat with %q", c.name, err, c.want)
		}
	}
}

// Whatever is read keeps its bounds, and nothing can be changed without the Name
// telling.
func FuzzParse(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(unhex(f, area))
	f.Add(certify(make([]byte, 34)))
	f.Add(sign(f, key, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := tpmwire.ParsePublic(b); err == nil {
			sum := sha256.Sum256(b)
			if len(p.Policy) > 64 || p.Key == nil || !bytes.Equal(p.Name[2:], sum[:]) {
				t.Fatalf("%+v", p)
			}
		} else if !errors.Is(err, tpmwire.ErrFormat) {
			t.Fatal(err)
		}
		if name, err := tpmwire.ParseCertify(b); err == nil && len(name) > 66 {
			t.Fatalf("a name of %d bytes", len(name))
		}
		if s, err := tpmwire.ParseSignature(b); err == nil {
			if len(s.R) > 32 || len(s.S) > 32 {
				t.Fatalf("%+v", s)
			}
			s.Verify(&key.PublicKey, b)
		}
	})
}
