package endorsement_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/format/endorsement"
)

// The low range is what go-tpm calls the reference templates.
func TestLowRangeIsTheReference(t *testing.T) {
	for i, want := range map[int]tpm2.TPMTPublic{0: tpm2.ECCEKTemplate, 3: tpm2.RSAEKTemplate} {
		if got := tpm2.Marshal(endorsement.Profiles[i].Public()); !bytes.Equal(got, tpm2.Marshal(want)) {
			t.Errorf("%s: %x, want %x", endorsement.Profiles[i].Name, got, tpm2.Marshal(want))
		}
	}
}

// Policy B of the high range is TPM2_PolicyOR of A and C (EK Credential Profile,
// section B.6): the constants vouch for one another.
func TestPolicyBIsAOrC(t *testing.T) {
	a := endorsement.Profiles[0].Public().AuthPolicy.Buffer
	b := endorsement.Profiles[1].Public().AuthPolicy.Buffer
	c := []byte{
		0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a, 0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef, 0x78, 0x64,
		0x3d, 0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8, 0x2c, 0x67, 0x3a, 0x30, 0xd8, 0x63, 0x3f, 0xde,
	}
	h := sha256.New()
	h.Write(make([]byte, 32))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMCCPolicyOR)))
	h.Write(a)
	h.Write(c)
	if got := h.Sum(nil); !bytes.Equal(got, b) {
		t.Errorf("A or C is %x, B %x", got, b)
	}
}

func TestProtection(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	modulus := func(bits int) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: 65537}
	}
	for _, c := range []struct {
		name string
		key  crypto.PublicKey
		hash crypto.Hash
		bits int
	}{
		{"RSA-2048", modulus(2048), crypto.SHA256, 128},
		{"P-256", &p256.PublicKey, crypto.SHA256, 128},
		{"P-384", &p384.PublicKey, crypto.SHA384, 256},
		{"RSA-1024", modulus(1024), 0, 0},
		{"P-521", &p521.PublicKey, 0, 0},
		{"Ed25519", ed, 0, 0},
		{"none", nil, 0, 0},
	} {
		hash, bits, err := endorsement.Protection(c.key)
		if hash != c.hash || bits != c.bits || (err != nil) != (c.hash == 0) || err != nil && !errors.Is(err, endorsement.ErrKey) {
			t.Errorf("%s: %v, %d, %v", c.name, hash, bits, err)
		}
	}
}

// Protection says the same as the templates do.
func TestProtectionFitsTheTemplates(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	keys := []crypto.PublicKey{&p256.PublicKey, &p256.PublicKey, &p384.PublicKey, &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2047, 1)}}
	keys = append(keys, keys[3])
	for i, p := range endorsement.Profiles {
		hash, bits, err := endorsement.Protection(keys[i])
		if err != nil {
			t.Fatal(err)
		}
		public := p.Public()
		want, err := public.NameAlg.Hash()
		if err != nil || want != hash {
			t.Errorf("%s: names by %v, template %v, %v", p.Name, hash, want, err)
		}
		var symmetric tpm2.TPMTSymDefObject
		if e, err := public.Parameters.ECCDetail(); err == nil {
			symmetric = e.Symmetric
		} else if r, err := public.Parameters.RSADetail(); err == nil {
			symmetric = r.Symmetric
		}
		if aes, err := symmetric.KeyBits.AES(); err != nil || int(*aes) != bits {
			t.Errorf("%s: AES of %d bits, template %v, %v", p.Name, bits, aes, err)
		}
		if public.ObjectAttributes.UserWithAuth != p.UserAuth {
			t.Errorf("%s: used with its own authorisation: %t, template %t", p.Name, p.UserAuth, public.ObjectAttributes.UserWithAuth)
		}
	}
}

func FuzzWithNonce(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("nonce"))
	f.Add(make([]byte, 33))
	f.Add(make([]byte, 257))
	f.Fuzz(func(t *testing.T, nonce []byte) {
		for i, most := range map[int]int{0: 32, 3: 256} {
			template, err := endorsement.WithNonce(endorsement.Profiles[i].Public(), nonce)
			if (err != nil) != (len(nonce) > most) {
				t.Fatalf("%s: nonce of %d bytes: %v", endorsement.Profiles[i].Name, len(nonce), err)
			}
			if err != nil {
				continue
			}
			got, want := tpm2.Marshal(template), tpm2.Marshal(endorsement.Profiles[i].Public())
			if len(got) != len(want) || len(nonce) > 0 && !bytes.Contains(got, nonce) {
				t.Fatalf("%s: %x", endorsement.Profiles[i].Name, got)
			}
		}
	})
}
