package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/device/tpm"
	"ward/internal/format/endorsement"
	"ward/internal/trust/credential"
)

func profiles() []endorsement.Profile { return endorsement.Profiles }

// endorsementOf is the key of a profile without a certificate: what the registrar
// would know of it.
func endorsementOf(t testing.TB, d *tpm.TPM, p endorsement.Profile) tpm.Endorsement {
	t.Helper()
	public, err := d.EndorsementPublic(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return tpm.Endorsement{Profile: p, Public: public}
}

// maker is a TPM maker's CA.
type maker struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newMaker(t *testing.T) maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := maker{key, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}}
	m.cert.Raw = m.certify(t, &key.PublicKey)
	return m
}

func (m maker) certify(t *testing.T, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "EK"}, NotAfter: time.Now().Add(time.Hour)}, m.cert, public, m.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// remove undefines an NV index if it is there.
func remove(t *testing.T, conn transport.TPM, hierarchy tpm2.TPMHandle, index uint32) {
	t.Helper()
	name, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(conn)
	if err != nil {
		return
	}
	if _, err := (tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: name.NVName},
	}).Execute(conn); err != nil {
		t.Fatal(err)
	}
}

// store puts bytes into an NV index as a maker does: readable for all.
func store(t *testing.T, conn transport.TPM, index uint32, data []byte) {
	t.Helper()
	public := tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true},
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	remove(t, conn, tpm2.TPMRHOwner, index)
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}).Execute(conn); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 512 {
		part := data[at:min(len(data), at+512)]
		name, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(conn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.NVWrite{AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: name.NVName}, Data: tpm2.TPM2BMaxNVBuffer{Buffer: part}, Offset: uint16(at)}).Execute(conn); err != nil {
			t.Fatal(err)
		}
	}
}

// The certificates that swtpm's own maker writes are for the keys that the
// profile's templates give.
func TestEndorsementOfAManufacturedTPM(t *testing.T) {
	socket := startTPM(t, true)
	d := open(t, socket)
	ek, err := d.Endorsement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ek.Profile.Certificate != 0x01c00016 || len(ek.Chain) != 0 {
		t.Errorf("profile %s, chain of %d", ek.Profile.Name, len(ek.Chain))
	}
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, conn, tpm2.TPMRHPlatform, 0x01c00016)
	ek, err = d.Endorsement(t.Context())
	if err != nil || ek.Profile.Certificate != 0x01c00002 {
		t.Errorf("RSA: profile %s, %v", ek.Profile.Name, err)
	}
}

func TestEndorsementCertificates(t *testing.T) {
	m := newMaker(t)
	for _, p := range profiles() {
		socket := startTPM(t, false)
		d := open(t, socket)
		conn, err := linuxudstpm.Open(socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Endorsement(t.Context()); !errors.Is(err, tpm.ErrNoCertificate) {
			t.Errorf("%s: without a certificate: %v", p.Name, err)
		}
		der := m.certify(t, endorsementOf(t, d, p).Public)
		padded := append(append([]byte{}, der...), bytes.Repeat([]byte{0xff}, 40)...)
		store(t, conn, p.Certificate, padded)
		// Two certificates of a chain, the second one over two indexes.
		chain := append(append([]byte{}, m.cert.Raw...), der...)
		store(t, conn, endorsement.FirstChain, chain[:len(m.cert.Raw)+50])
		store(t, conn, endorsement.FirstChain+1, append(chain[len(m.cert.Raw)+50:], 0, 0, 0))
		ek, err := d.Endorsement(t.Context())
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		if !bytes.Equal(ek.Certificate, der) || len(ek.Chain) != 2 || !bytes.Equal(ek.Chain[0], m.cert.Raw) || !bytes.Equal(ek.Chain[1], der) {
			t.Errorf("%s: certificate %x, chain %x", p.Name, ek.Certificate, ek.Chain)
		}
		store(t, conn, p.Certificate, m.certify(t, &m.key.PublicKey))
		if _, err := d.Endorsement(t.Context()); !errors.Is(err, tpm.ErrCertificateKey) {
			t.Errorf("%s: another key's certificate: %v, want ErrCertificateKey", p.Name, err)
		}
		for _, bad := range [][]byte{der[:100], bytes.Repeat([]byte{0xff}, 64), {0x30, 0x03, 1, 1, 1}} {
			store(t, conn, p.Certificate, bad)
			if _, err := d.Endorsement(t.Context()); !errors.Is(err, tpm.ErrResponse) {
				t.Errorf("%s: certificate %.8x: %v, want ErrResponse", p.Name, bad, err)
			}
		}
		store(t, conn, p.Certificate, der)
		store(t, conn, endorsement.FirstChain, []byte{0x30, 0x82, 0x7f})
		if _, err := d.Endorsement(t.Context()); !errors.Is(err, tpm.ErrResponse) {
			t.Errorf("%s: a chain that is cut: %v, want ErrResponse", p.Name, err)
		}
	}
}

// A maker's nonce and template in NV memory make another key.
func TestMakersNonceAndTemplate(t *testing.T) {
	socket := startTPM(t, false)
	d := open(t, socket)
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	p := profiles()[0]
	plain := endorsementOf(t, d, p).Public.(*ecdsa.PublicKey)
	store(t, conn, p.Nonce, []byte("the maker's nonce"))
	mixed := endorsementOf(t, d, p).Public.(*ecdsa.PublicKey)
	if plain.Equal(mixed) {
		t.Error("the nonce makes no difference")
	}
	template := p.Public()
	template.ObjectAttributes.NoDA = true
	store(t, conn, p.Template, tpm2.Marshal(template))
	if own := endorsementOf(t, d, p).Public.(*ecdsa.PublicKey); own.Equal(mixed) || own.Equal(plain) {
		t.Error("the template makes no difference")
	}
	store(t, conn, p.Template, []byte{1, 2, 3})
	if _, err := d.EndorsementPublic(t.Context(), p); !errors.Is(err, tpm.ErrResponse) {
		t.Errorf("a template of three bytes: %v, want ErrResponse", err)
	}
}

// Verifies: SR-012
func TestActivation(t *testing.T) {
	d, other := manufactured(t), manufactured(t)
	secret := []byte("thirty-two bytes of credential !")
	for _, p := range profiles() {
		ek := endorsementOf(t, d.TPM, p)
		blob, err := credential.Make(rand.Reader, ek.Public, d.keys.AK.Name, secret)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Activate(t.Context(), ek, tpm.HandleAK, blob)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: %q, %v", p.Name, got, err)
		}
		changed := func(f func(*credential.Blob)) credential.Blob {
			b := credential.Blob{Credential: bytes.Clone(blob.Credential), Secret: bytes.Clone(blob.Secret)}
			f(&b)
			return b
		}
		for _, c := range []struct {
			name   string
			device *device
			handle uint32
			blob   credential.Blob
		}{
			{"another TPM", other, tpm.HandleAK, blob},
			{"another key of this TPM", d, tpm.HandleSRK, blob},
			{"integrity changed", d, tpm.HandleAK, changed(func(b *credential.Blob) { b.Credential[5] ^= 1 })},
			{"identity changed", d, tpm.HandleAK, changed(func(b *credential.Blob) { b.Credential[len(b.Credential)-1] ^= 1 })},
			{"secret changed", d, tpm.HandleAK, changed(func(b *credential.Blob) { b.Secret[10] ^= 1 })},
			{"cut", d, tpm.HandleAK, changed(func(b *credential.Blob) { b.Credential = b.Credential[:20] })},
			{"no secret", d, tpm.HandleAK, changed(func(b *credential.Blob) { b.Secret = nil })},
			{"nothing", d, tpm.HandleAK, credential.Blob{}},
		} {
			if got, err := c.device.Activate(t.Context(), ek, c.handle, c.blob); !errors.Is(err, tpm.ErrCredential) || got != nil {
				t.Errorf("%s, %s: %q, %v, want ErrCredential", p.Name, c.name, got, err)
			}
		}
	}
	if _, err := d.Activate(t.Context(), tpm.Endorsement{Profile: profiles()[0]}, 0x81001234, credential.Blob{}); !errors.Is(err, tpm.ErrNoKey) {
		t.Errorf("no key at the handle: %v", err)
	}
}
