package pe_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"strings"
	"testing"

	"ward/internal/format/pe"
	"ward/internal/format/pe/petest"
)

func key(t testing.TB, name string, authority *x509.Certificate, by crypto.Signer) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	k, c, err := petest.Key(name, authority, by)
	if err != nil {
		t.Fatal(err)
	}
	return k, c
}

// fastKey is a P-256 key, which takes no time to make.
func fastKey(t testing.TB) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fast"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return k, c
}

func sign(t testing.TB, image []byte, k crypto.Signer, certs ...*x509.Certificate) []byte {
	t.Helper()
	b, err := petest.Sign(image, k, certs...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func signedFast(t testing.TB) []byte {
	k, c := fastKey(t)
	return sign(t, build(), k, c)
}

func signatures(t testing.TB, b []byte) ([]pe.Signature, error) {
	t.Helper()
	i, err := pe.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return i.Signatures()
}

func TestSignatures(t *testing.T) {
	rootKey, root := key(t, "root", nil, nil)
	k, cert := key(t, "signer", root, rootKey)
	_, stranger := key(t, "stranger", nil, nil)
	if list, err := signatures(t, signedFast(t)); err != nil || len(list) != 1 {
		t.Errorf("P-256: %d signatures, error %v", len(list), err)
	}
	if list, err := signatures(t, build()); err != nil || len(list) != 0 {
		t.Errorf("unsigned: %d signatures, error %v", len(list), err)
	}
	list, err := signatures(t, sign(t, build(), k, cert))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d signatures, error %v", len(list), err)
	}
	if s := list[0]; !s.Signer.Equal(cert) || !s.LeadsTo(cert) || !s.LeadsTo(root) || s.LeadsTo(stranger) {
		t.Errorf("signer %s; leads to itself %t, root %t, a stranger %t", s.Signer.Subject, s.LeadsTo(cert), s.LeadsTo(root), s.LeadsTo(stranger))
	}
}

// Every byte of image and signature counts: one that is changed is refused, or
// nothing protects it (padding, what PKCS #7 does not sign) and it admits nobody
// else.
func TestSignaturesRefuseChanges(t *testing.T) {
	k, cert := key(t, "signer", nil, nil)
	signed := sign(t, build(), k, cert)
	content := len(build())
	for at := petest.HeaderEnd; at < content; at++ {
		bad := bytes.Clone(signed)
		bad[at] ^= 1
		if list, err := signatures(t, bad); err == nil {
			t.Fatalf("byte %d of the image changed: %d signatures hold", at, len(list))
		}
	}
	for at := content; at < len(signed); at++ {
		bad := bytes.Clone(signed)
		bad[at] ^= 1
		i, err := pe.Parse(bad)
		if err != nil {
			continue
		}
		list, err := i.Signatures()
		// Its certificate may be another one now; nothing leads from that to the
		// signer's.
		if err == nil && len(list) == 1 && !list[0].Signer.Equal(cert) && list[0].LeadsTo(cert) {
			t.Errorf("byte %d of the signature changed: another certificate leads to the signer's", at-content)
		}
	}
}

func TestSignaturesRefuse(t *testing.T) {
	k, cert := key(t, "signer", nil, nil)
	_, stranger := key(t, "stranger", nil, nil)
	signed := sign(t, build(), k, cert)
	at := binary.LittleEndian.Uint32(signed[petest.DirectoryAt:])
	changed := func(change func(b []byte)) []byte {
		b := bytes.Clone(signed)
		change(b)
		return b
	}
	for name, c := range map[string]struct {
		image []byte
		says  string
	}{
		"beyond the end":         {changed(func(b []byte) { binary.LittleEndian.PutUint32(b[petest.DirectoryAt+4:], 1<<31) }), "do not fit into the image"},
		"no bytes":               {changed(func(b []byte) { binary.LittleEndian.PutUint32(b[at:], 0) }), "do not fit"},
		"4 GiB":                  {changed(func(b []byte) { binary.LittleEndian.PutUint32(b[at:], 1<<32-1) }), "do not fit"},
		"no PKCS #7":             {petest.Attach(build(), []byte("hello, this is no signature")), "parse PKCS #7"},
		"empty":                  {petest.Attach(build(), nil), "parse PKCS #7"},
		"the signer is not with": {sign(t, build(), k, stranger), "the signer's key did not make it"},
		"of another image": {petest.Attach(petest.Build(petest.Section{Name: ".cmdline", Data: "other"}),
			signed[at+8:]), "it is of another image"},
	} {
		if list, err := signatures(t, c.image); err == nil || !strings.Contains(err.Error(), c.says) || len(list) != 0 {
			t.Errorf("%s: %d signatures, error %v; want one with %q", name, len(list), err, c.says)
		}
	}
}

// A good signature of one image whose digest is exchanged for that of another:
// the attributes, which are signed, name the content's digest.
func TestSignaturesRefuseAnotherDigest(t *testing.T) {
	k, cert := key(t, "signer", nil, nil)
	signed := sign(t, build(), k, cert)
	other := petest.Build(petest.Section{Name: ".cmdline", Data: "quiet, other"}, petest.Section{Name: ".second", Data: "content"})
	at := binary.LittleEndian.Uint32(signed[petest.DirectoryAt:])
	forged := petest.Attach(other, bytes.ReplaceAll(signed[at+8:], digest(t, build()), digest(t, other)))
	if list, err := signatures(t, forged); err == nil || !strings.Contains(err.Error(), "its content was changed") {
		t.Errorf("%d signatures, error %v", len(list), err)
	}
}

// Any bytes as an image, and any as the signature of a good one: no panic, and
// nothing but the signer's own signature holds.
func FuzzSignatures(f *testing.F) {
	k, cert := fastKey(f)
	image := build()
	signed := sign(f, image, k, cert)
	f.Add(signed, []byte{})
	f.Add(image, signed[len(image)+8:])
	f.Add(image, []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b, pkcs7 []byte) {
		for _, b := range [][]byte{b, petest.Attach(image, pkcs7)} {
			i, err := pe.Parse(b)
			if err != nil {
				continue
			}
			list, err := i.Signatures()
			if err != nil && len(list) > 0 {
				t.Fatal("signatures beside an error")
			}
			for _, s := range list {
				if s.Signer == nil || !s.LeadsTo(s.Signer) {
					t.Fatal("a signature without a signer")
				}
			}
		}
	})
}
