package est_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ward/internal/format/est"
)

func cert(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1<<31, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Verifies: SR-034
func TestCerts(t *testing.T) {
	all := [][]byte{cert(t, "leaf"), cert(t, "a"), cert(t, "root")}
	der, err := est.EncodeCerts(all)
	if err != nil {
		t.Fatal(err)
	}
	got, err := est.ParseCerts(der)
	if err != nil || len(got) != 3 {
		t.Fatalf("%d certificates, %v", len(got), err)
	}
	for i, c := range got {
		if !bytes.Equal(c.Raw, all[i]) {
			t.Errorf("certificate %d is %s", i, c.Subject)
		}
	}
	if _, err := est.EncodeCerts(nil); err == nil {
		t.Error("no certificate was written")
	}
	if _, err := est.EncodeCerts([][]byte{der}); err == nil {
		t.Error("what is no certificate was written")
	}
	for name, b := range map[string][]byte{
		"empty":         {},
		"cut":           der[:len(der)-1],
		"followed":      append(bytes.Clone(der), 0),
		"a certificate": all[0],
		"another kind":  bytes.Replace(der, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03}, 1),
		"too long":      make([]byte, est.MaxBody+1),
	} {
		if got, err := est.ParseCerts(b); !errors.Is(err, est.ErrFormat) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// OpenSSL reads what is written, and what OpenSSL writes is read.
//
// Verifies: SR-034
func TestOpenSSL(t *testing.T) {
	all := [][]byte{cert(t, "leaf"), cert(t, "root")}
	der, err := est.EncodeCerts(all)
	if err != nil {
		t.Fatal(err)
	}
	pem := openssl(t, der, "pkcs7", "-inform", "DER", "-print_certs")
	if n := strings.Count(string(pem), "BEGIN CERTIFICATE"); n != 2 {
		t.Fatalf("openssl reads %d certificates:\n%s", n, pem)
	}
	file := t.TempDir() + "/certs.pem"
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	der = openssl(t, nil, "crl2pkcs7", "-nocrl", "-certfile", file, "-outform", "DER")
	got, err := est.ParseCerts(der)
	if err != nil || len(got) != 2 || !bytes.Equal(got[0].Raw, all[0]) {
		t.Errorf("%d certificates of openssl, %v", len(got), err)
	}
}

func openssl(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed: run 'make deps'")
	}
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v", args, err)
	}
	return out
}

// Verifies: SR-034
func TestBody(t *testing.T) {
	der := bytes.Repeat([]byte{0x30, 1, 2}, 50)
	text := est.EncodeBody(der)
	for _, line := range strings.Split(string(text), "\n") {
		if len(line) > 64 {
			t.Errorf("line of %d characters", len(line))
		}
	}
	for name, body := range map[string][]byte{
		"as written": text, "in one line": bytes.ReplaceAll(text, []byte("\n"), nil), "for Windows": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
	} {
		if got, err := est.ParseBody(body); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for name, body := range map[string]string{"empty": "", "blank": " \n", "no base64": "****", "cut": "MAE", "DER": string(der), "long": strings.Repeat("A", est.MaxBody+4)} {
		if got, err := est.ParseBody([]byte(body)); !errors.Is(err, est.ErrFormat) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func FuzzParseCerts(f *testing.F) {
	der, err := est.EncodeCerts([][]byte{cert(f, "leaf"), cert(f, "root")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := est.ParseCerts(b)
		if err != nil {
			return
		}
		var raw [][]byte
		for _, c := range certs {
			raw = append(raw, c.Raw)
		}
		again, err := est.EncodeCerts(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := est.ParseCerts(again); err != nil || len(got) != len(certs) {
			t.Errorf("%d certificates became %d, %v", len(certs), len(got), err)
		}
	})
}

func FuzzParseBody(f *testing.F) {
	f.Add([]byte("MAMCAQE=\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		der, err := est.ParseBody(b)
		if err != nil {
			return
		}
		if got, err := est.ParseBody(est.EncodeBody(der)); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%x became %x, %v", der, got, err)
		}
	})
}

// Verifies: SR-034
func TestCSRAttrs(t *testing.T) {
	out := string(openssl(t, est.CSRAttrs(), "asn1parse", "-inform", "DER"))
	for _, want := range []string{"ecdsa-with-SHA256", "id-ecPublicKey", "prime256v1", "SET"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}
