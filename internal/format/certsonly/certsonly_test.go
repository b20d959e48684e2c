package certsonly_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/format/certsonly"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func chain(t testing.TB) []*x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for text := readFile(t, "chain.pem"); ; {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return certs
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
}

// What openssl writes is read, and the same bytes are written.
//
// Verifies: SR-032
func TestMessageOfOpenSSL(t *testing.T) {
	der, want := readFile(t, "chain.p7"), chain(t)
	got, err := certsonly.Parse(der)
	if err != nil || len(got) != 2 || !got[0].Equal(want[0]) || !got[1].Equal(want[1]) {
		t.Fatalf("%d certificates, %v", len(got), err)
	}
	if written, err := certsonly.Marshal(want); err != nil || !bytes.Equal(written, der) {
		t.Errorf("written as %x, %v", written, err)
	}
	text := readFile(t, "chain.b64")
	if got := certsonly.Encode(der); !bytes.Equal(got, text) {
		t.Errorf("body %s, openssl writes %s", got, text)
	}
	if got, err := certsonly.Decode(text); err != nil || !bytes.Equal(got, der) {
		t.Errorf("body read as %x, %v", got, err)
	}
}

// message is a SignedData of which a test changes a part.
type message struct {
	kind, content asn1.ObjectIdentifier
	data          []byte // content of [0] within the encapsulated content
	certificates  []byte
	absent        bool // no certificates at all
	crls, signers []byte
}

func (m message) der(t testing.TB) []byte {
	t.Helper()
	marshal := func(v any) []byte {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	tagged := func(tag int, b []byte) []byte {
		return marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: b})
	}
	universal := func(tag int, parts ...[]byte) []byte {
		return marshal(asn1.RawValue{Tag: tag, IsCompound: true, Bytes: bytes.Join(parts, nil)})
	}
	encapsulated := marshal(m.content)
	if m.data != nil {
		encapsulated = append(encapsulated, tagged(0, m.data)...)
	}
	parts := [][]byte{marshal(1), universal(asn1.TagSet), universal(asn1.TagSequence, encapsulated)}
	if !m.absent {
		parts = append(parts, tagged(0, m.certificates))
	}
	if m.crls != nil {
		parts = append(parts, tagged(1, m.crls))
	}
	parts = append(parts, universal(asn1.TagSet, m.signers))
	return universal(asn1.TagSequence, marshal(m.kind), tagged(0, universal(asn1.TagSequence, parts...)))
}

func good(t testing.TB) message {
	return message{
		kind: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, content: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1},
		certificates: chain(t)[0].Raw,
	}
}

func TestBadInput(t *testing.T) {
	change := func(f func(*message)) []byte { m := good(t); f(&m); return m.der(t) }
	if certs, err := certsonly.Parse(good(t).der(t)); err != nil || len(certs) != 1 {
		t.Fatalf("the message that the others differ from: %v", err)
	}
	if certs, err := certsonly.Parse(change(func(m *message) { m.crls = []byte{} })); err != nil || len(certs) != 1 {
		t.Errorf("with an empty list of CRLs: %v", err)
	}
	leaf := chain(t)[0].Raw
	openssl := readFile(t, "chain.p7")
	inner := bytes.Clone(openssl)
	inner[16] = 0x80 // the length of [0], which openssl -stream leaves open
	for _, c := range []struct {
		name string
		der  []byte
		want string
		ber  bool
	}{
		{"nothing", nil, "asn1", false},
		{"text", []byte("certificates"), "asn1", false},
		{"cut", openssl[:len(openssl)-1], "asn1", false},
		{"bytes behind", append(bytes.Clone(openssl), 0), "1 bytes behind it", false},
		{"a certificate alone", leaf, "asn1", false},
		{"too long", make([]byte, certsonly.MaxMessage+1), "at most 65536", false},
		{"BER of openssl", readFile(t, "stream.p7"), "indefinite lengths", true},
		{"BER within", inner, "indefinite lengths", true},
		{"signed by openssl", readFile(t, "signed.p7"), "it is signed", false},
		{"with a revocation list of openssl's", readFile(t, "crl.p7"), "it holds revocation lists", false},
		{"another content", change(func(m *message) { m.kind = m.content }), "content of the type 1.2.840.113549.1.7.1", false},
		{"something signed", change(func(m *message) { m.content = m.kind }), "more than certificates", false},
		{"data", change(func(m *message) { m.data = []byte{4, 1, 7} }), "more than certificates", false},
		{"signer", change(func(m *message) { m.signers = []byte{0x30, 0} }), "it is signed", false},
		{"no certificates", change(func(m *message) { m.absent = true }), "no certificate", false},
		{"an empty set", change(func(m *message) { m.certificates = nil }), "no certificate", false},
		{"seventeen", change(func(m *message) { m.certificates = bytes.Repeat(leaf, 17) }), "more than 16 certificates", false},
		{"a certificate cut", change(func(m *message) { m.certificates = leaf[:100] }), "certificate 1", false},
		{"an attribute certificate", change(func(m *message) { m.certificates = append(bytes.Clone(leaf), 0xa2, 0) }), "certificate 2", false},
	} {
		certs, err := certsonly.Parse(c.der)
		if certs != nil || !errors.Is(err, certsonly.ErrFormat) || errors.Is(err, certsonly.ErrBER) != c.ber || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d certificates, %v, want ErrFormat with %q", c.name, len(certs), err, c.want)
		}
	}
	many, large := make([]*x509.Certificate, 17), []*x509.Certificate{{Raw: make([]byte, certsonly.MaxMessage)}}
	for name, certs := range map[string][]*x509.Certificate{"none": nil, "too many": many, "too large": large} {
		if der, err := certsonly.Marshal(certs); err == nil {
			t.Errorf("%s: written as %d bytes", name, len(der))
		}
	}
}

func TestBodies(t *testing.T) {
	der := readFile(t, "chain.p7")
	text := strings.ReplaceAll(string(certsonly.Encode(der)), "\n", "")
	for name, body := range map[string]string{
		"one line":                    text,
		"a line break at the end":     text + "\r\n",
		"CR and LF after 76":          text[:76] + "\r\n" + text[76:],
		"indented":                    "  " + text[:4] + "\n\t" + text[4:],
		"a break within a quadruple":  text[:5] + "\n" + text[5:],
		"blank lines before and last": "\n\n" + text + "\n\n",
	} {
		if got, err := certsonly.Decode([]byte(body)); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string]string{
		"nothing":             "",
		"white space":         " \r\n",
		"DER":                 string(der),
		"PEM":                 "-----BEGIN PKCS7-----\n" + text,
		"no padding":          "QQ",
		"text behind":         "QQ==QQ==",
		"loose bits":          "QR==",
		"URL alphabet":        "_-8=",
		"long":                strings.Repeat("A", 2*certsonly.MaxMessage+4),
		"long when decoded":   strings.Repeat("A", (certsonly.MaxMessage/3+1)*4),
		"another white space": "QQ=\v=",
	} {
		if got, err := certsonly.Decode([]byte(body)); got != nil || !errors.Is(err, certsonly.ErrBody) {
			t.Errorf("%s: %x, %v, want ErrBody", name, got, err)
		}
	}
}

// What can be read can be written and is the same when it is read again; reading
// allocates within a bound, and never gives more than its bound of certificates.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"chain.p7", "crl.p7", "signed.p7", "stream.p7"} {
		f.Add(readFile(f, name))
	}
	f.Add(good(f).der(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		most := uint64(1<<20 + 64*len(der)) // a certificate's fields take a multiple of its bytes
		if used := alloctest.Bytes(most, func() { _, _ = certsonly.Parse(der) }); used > most {
			t.Errorf("%d bytes of input, %d allocated, at most %d", len(der), used, most)
		}
		certs, err := certsonly.Parse(der)
		if err != nil {
			if !errors.Is(err, certsonly.ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
			return
		}
		written, err := certsonly.Marshal(certs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := certsonly.Parse(written)
		if err != nil || len(again) != len(certs) || len(certs) > certsonly.MaxCertificates {
			t.Fatalf("%d certificates became %d, %v", len(certs), len(again), err)
		}
		for i := range certs {
			if !bytes.Equal(certs[i].Raw, again[i].Raw) {
				t.Fatalf("certificate %d changed", i)
			}
		}
	})
}

// A body that can be read has one content, which is the same when it is written
// and read again.
func FuzzDecode(f *testing.F) {
	f.Add(readFile(f, "chain.b64"))
	f.Add([]byte("QQ==\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		der, err := certsonly.Decode(body)
		if err != nil {
			return
		}
		if again, err := certsonly.Decode(certsonly.Encode(der)); err != nil || !bytes.Equal(again, der) {
			t.Fatalf("%x became %x, %v", der, again, err)
		}
	})
}
