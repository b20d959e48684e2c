package credential

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/format/endorsement"
)

func testName() []byte {
	sum := sha256.Sum256([]byte("an attestation key"))
	return append([]byte{0, 0x0b}, sum[:]...)
}

// open is what TPM2_ActivateCredential does, with go-tpm's derivations and Go's
// own CFB.
func open(t *testing.T, private crypto.PrivateKey, name []byte, b Blob) ([]byte, error) {
	t.Helper()
	var seed []byte
	var hash crypto.Hash
	bits := 128
	switch k := private.(type) {
	case *rsa.PrivateKey:
		hash = crypto.SHA256
		var err error
		if seed, err = rsa.DecryptOAEP(hash.New(), nil, k, b.Secret, []byte("IDENTITY\x00")); err != nil {
			return nil, err
		}
	case *ecdsa.PrivateKey:
		hash = crypto.SHA256
		if k.Curve == elliptic.P384() {
			hash, bits = crypto.SHA384, 256
		}
		point, err := tpm2.Unmarshal[tpm2.TPMSECCPoint](b.Secret)
		if err != nil {
			return nil, err
		}
		ours, err := k.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := ours.Curve().NewPublicKey(append(append([]byte{4}, point.X.Buffer...), point.Y.Buffer...))
		if err != nil {
			return nil, err
		}
		z, err := ours.ECDH(theirs)
		if err != nil {
			return nil, err
		}
		size := len(point.X.Buffer)
		seed = tpm2.KDFe(hash, z, "IDENTITY", point.X.Buffer, ours.PublicKey().Bytes()[1:1+size], 8*hash.Size())
	}
	mac := b.Credential[2 : 2+hash.Size()]
	identity := bytes.Clone(b.Credential[2+hash.Size():])
	m := hmac.New(hash.New, tpm2.KDFa(hash, seed, "INTEGRITY", nil, nil, 8*hash.Size()))
	m.Write(identity)
	m.Write(name)
	if !hmac.Equal(m.Sum(nil), mac) {
		return nil, errors.New("integrity")
	}
	block, err := aes.NewCipher(tpm2.KDFa(hash, seed, "STORAGE", name, nil, bits))
	if err != nil {
		t.Fatal(err)
	}
	feedback := make([]byte, aes.BlockSize) // CFB from a zero vector (NIST SP 800-38A, section 6.3)
	for at := 0; at < len(identity); at += aes.BlockSize {
		chunk := identity[at:min(at+aes.BlockSize, len(identity))]
		next := bytes.Clone(chunk)
		block.Encrypt(feedback, feedback)
		subtle.XORBytes(chunk, chunk, feedback)
		copy(feedback, next)
	}
	if int(identity[0])<<8|int(identity[1]) != len(identity)-2 {
		return nil, errors.New("size")
	}
	return identity[2:], nil
}

// Verifies: SR-012
func TestMakeOpensWithTheKeyAlone(t *testing.T) {
	type private interface{ Public() crypto.PublicKey }
	keys := make(map[string][2]private)
	rsaKeys := [2]private{}
	for i := range 2 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		rsaKeys[i] = k
	}
	keys["RSA-2048"] = rsaKeys
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		var two [2]private
		for i := range two {
			k, err := ecdsa.GenerateKey(c, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			two[i] = k
		}
		keys[c.Params().Name] = two
	}
	for what, two := range keys {
		for _, n := range []int{1, 15, 16, 31, 32} {
			secret := bytes.Repeat([]byte{0x5a}, n)
			blob, err := Make(rand.Reader, two[0].Public(), testName(), secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := open(t, two[0], testName(), blob); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s, %d bytes: %x, %v", what, n, got, err)
			}
			other := testName()
			other[9] ^= 1
			if _, err := open(t, two[0], other, blob); err == nil {
				t.Errorf("%s: opened for another object", what)
			}
			if _, err := open(t, two[1], testName(), blob); err == nil {
				t.Errorf("%s: opened with another key", what)
			}
			if bytes.Contains(blob.Credential, secret) && n > 2 {
				t.Errorf("%s: the secret stands in the open", what)
			}
			again, err := Make(rand.Reader, two[0].Public(), testName(), secret)
			if err != nil || bytes.Equal(again.Credential, blob.Credential) || bytes.Equal(again.Secret, blob.Secret) {
				t.Errorf("%s: two credentials are the same: %v", what, err)
			}
		}
	}
}

// The bytes for given seeds and keys. TestMakeOpensWithTheKeyAlone opens such bytes
// with go-tpm's derivations, and device/tpm has TPMs open them.
func TestGoldenBytes(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, 48)
	secret := []byte("0123456789abcdef0123456789abcdef")
	for _, c := range []struct {
		hash crypto.Hash
		bits int
		want string
	}{{crypto.SHA256, 128, "002029099451a6a1af4b238d6fb1798be54e019c570d37258cadac24780283cf76f3b06ab685e17a8e9ed348d486d10b11f3b74c926c993827e2d7c42eddbdaadfaee1a6"}, {crypto.SHA384, 256, "003083ae0db87d5adce1f36f81528607b2279d0f55adec08ef244ccc9e02338ba133a2fc28795932cd1498ff931b77d4e532351a076e5ce8ac1a896375a2f99f40709c8226b458ee3ccf447bc5e48b68803f95c7"}} {
		got, err := protect(c.hash, c.bits, seed[:c.hash.Size()], testName(), secret)
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%v: %x, want %s, %v", c.hash, got, c.want, err)
		}
	}
	for _, c := range []struct {
		curve ecdh.Curve
		size  int
		hash  crypto.Hash
		want  string
	}{{ecdh.P256(), 32, crypto.SHA256, "73036fceaddac8725433d40d88fed94af8cfcb72c9fb36b879ed90bf0d424a7b"}, {ecdh.P384(), 48, crypto.SHA384, "0111ac6663bdd521e1b2bfc7637617e1178e0bb5b890697816e65e6941b018cdbd61def7432c34c5272250d4c334902b"}} {
		ours, err := c.curve.NewPrivateKey(bytes.Repeat([]byte{1}, c.size))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := c.curve.NewPrivateKey(bytes.Repeat([]byte{2}, c.size))
		if err != nil {
			t.Fatal(err)
		}
		seed, wrapped, err := agree(ours, theirs.PublicKey(), c.hash)
		if err != nil || hex.EncodeToString(seed) != c.want || len(wrapped) != 4+2*c.size {
			t.Errorf("%v: seed %x, want %s, %d bytes, %v", c.curve, seed, c.want, len(wrapped), err)
		}
	}
}

func TestMakeRefuses(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sha1 := append([]byte{0, 4}, make([]byte, 32)...)
	for _, c := range []struct {
		name    string
		key     crypto.PublicKey
		of      []byte
		secret  []byte
		endorse bool
	}{
		{"no secret", &key.PublicKey, testName(), nil, false},
		{"33 bytes", &key.PublicKey, testName(), make([]byte, 33), false},
		{"no name", &key.PublicKey, nil, []byte{1}, false},
		{"name cut", &key.PublicKey, testName()[:33], []byte{1}, false},
		{"name of SHA-1", &key.PublicKey, sha1, []byte{1}, false},
		{"P-521", &p521.PublicKey, testName(), []byte{1}, true},
		{"Ed25519", ed, testName(), []byte{1}, true},
		{"no key", nil, testName(), []byte{1}, true},
	} {
		b, err := Make(rand.Reader, c.key, c.of, c.secret)
		if err == nil || b.Credential != nil || errors.Is(err, endorsement.ErrKey) != c.endorse {
			t.Errorf("%s: %v, %v", c.name, b, err)
		}
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Make(bytes.NewReader(nil), &small.PublicKey, testName(), []byte{1}); err == nil {
		t.Error("without random bytes a credential was made")
	}
}
