package registrar_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	deviceest "ward/internal/device/est"
	"ward/internal/format/est"
	"ward/internal/trust/enrolment"
)

// Programs that are not ours enrol, renew and read what they are given: OpenSSL
// makes the certification requests, curl carries them.
//
// Verifies: SR-034
func TestCurlAndOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: run 'make deps'")
	}
	w := newWorld(t, nil)
	d := w.maker.NewDevice(t, "pump-1")
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = w.dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	ssl := func(args ...string) string { t.Helper(); return run("openssl", args...) }
	// The paths' host is 127.0.0.1, which is in the registrar's certificate.
	curl := func(path string, args ...string) string {
		t.Helper()
		return run("curl", append([]string{"-sS", "--fail-with-body", "--tlsv1.3", "--cacert", "ca/ca.crt", w.url + path}, args...)...)
	}
	write := func(name string, b []byte) {
		t.Helper()
		must(t, os.WriteFile(w.file(name), b, 0o600))
	}
	csr := func(key crypto.Signer, args ...string) {
		t.Helper()
		der, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		ssl(append([]string{"req", "-new", "-key", "key.pem", "-outform", "DER", "-out", "csr.der"}, args...)...)
		ssl("base64", "-in", "csr.der", "-out", "csr.b64")
	}
	read := func(out string) string {
		t.Helper()
		ssl("base64", "-d", "-in", "answer.b64", "-out", "answer.p7")
		ssl("pkcs7", "-inform", "DER", "-in", "answer.p7", "-print_certs", "-out", out)
		ssl("verify", "-CAfile", "ca/ca.crt", "-purpose", "sslclient", "-x509_strict", out)
		return ssl("x509", "-in", out, "-noout", "-subject", "-ext", "subjectAltName,extendedKeyUsage")
	}

	curl(est.PathCACerts, "-o", "answer.b64")
	ssl("base64", "-d", "-in", "answer.b64", "-out", "answer.p7")
	if got := ssl("pkcs7", "-inform", "DER", "-in", "answer.p7", "-print_certs"); !strings.Contains(got, "CN = Acme Fleet") {
		t.Errorf("cacerts: %s", got)
	}
	curl(est.PathCSRAttrs, "-o", "attrs.b64")
	ssl("base64", "-d", "-in", "attrs.b64", "-out", "attrs.der")
	if got := ssl("asn1parse", "-inform", "DER", "-in", "attrs.der"); !strings.Contains(got, "ecdsa-with-SHA256") {
		t.Errorf("csrattrs: %s", got)
	}

	request, err := enrolment.EncodeRequest(d.Request(tenant))
	must(t, err)
	write("request.json", request)
	answer := curl(est.PathTPMChallenge, "-H", "Content-Type: application/json", "--data-binary", "@request.json")
	challenge, err := enrolment.ParseChallenge([]byte(answer))
	must(t, err)
	user := challenge.ID + ":" + hex.EncodeToString(d.Activate(challenge.Credential))

	csr(d.Signer(enrolment.Reporting), "-subj", "/CN=pump-1", "-addext", "subjectAltName=DNS:elsewhere.example")
	curl(est.PathSimpleEnroll, "-u", user, "-H", "Content-Type: application/pkcs10", "--data-binary", "@csr.b64", "-o", "answer.b64")
	if got := read("reporting.pem"); !strings.Contains(got, "O = acme, CN = pump-1") || !strings.Contains(got, "URI:urn:ward:acme:pump-1\n") || strings.Contains(got, "elsewhere") {
		t.Errorf("simpleenroll: %s", got)
	}
	run("cp", "key.pem", "reporting.key")

	curl(est.PathSimpleReenroll, "--cert", "reporting.pem", "--key", "reporting.key", "-H", "Content-Type: application/pkcs10", "--data-binary", "@csr.b64", "-o", "answer.b64")
	if got := read("renewed.pem"); !strings.Contains(got, "O = acme, CN = pump-1") {
		t.Errorf("simplereenroll: %s", got)
	}
	csr(d.Signer(enrolment.Service), "-subj", "/")
	curl(est.PathSimpleReenroll, "-u", user, "--cert", "reporting.pem", "--key", "reporting.key", "-H", "Content-Type: application/pkcs10", "--data-binary", "@csr.b64", "-o", "answer.b64")
	if got := read("service.pem"); !strings.Contains(got, "OU = service") || !strings.Contains(got, "TLS Web Client Authentication") {
		t.Errorf("the service key: %s", got)
	}
	curl(est.PathCRL, "-o", "crl.der")
	if got := ssl("crl", "-inform", "DER", "-in", "crl.der", "-CAfile", "ca/ca.crt", "-noout", "-crlnumber"); !strings.Contains(got, "verify OK") {
		t.Errorf("crl: %s", got)
	}
}

// The device's own client understands the registrar: certificates, roots, list,
// and refusals.
//
// Verifies: SR-034, SR-036
func TestDeviceClient(t *testing.T) {
	w := newWorld(t, nil)
	d := w.maker.NewDevice(t, "pump-1")
	client := func(cert ...tls.Certificate) *deviceest.Client {
		t.Helper()
		c, err := deviceest.New(w.url, &tls.Config{RootCAs: w.roots, Certificates: cert})
		must(t, err)
		t.Cleanup(c.Close)
		return c
	}
	c := client()
	challenge, err := c.Challenge(t.Context(), d.Request(tenant))
	must(t, err)
	secret := d.Activate(challenge.Credential)
	key := d.Signer(enrolment.Reporting)
	certs, err := c.Enroll(t.Context(), csrDER(t, key, "pump-1"), challenge.ID, secret)
	must(t, err)
	if len(certs) != 1 || certs[0].Subject.CommonName != "pump-1" {
		t.Errorf("%d certificates, %s", len(certs), certs[0].Subject)
	}
	_, err = c.Enroll(t.Context(), csrDER(t, key, "pump-1"), challenge.ID, secret)
	var refused *deviceest.Error
	if !errors.As(err, &refused) || refused.Status != 401 || !strings.Contains(refused.Text, "ask for a new challenge") {
		t.Errorf("the same secret again: %v", err)
	}
	if roots, err := c.CACerts(t.Context()); err != nil || len(roots) != 1 || roots[0].Subject.CommonName != "Acme Fleet" {
		t.Errorf("roots: %v, %v", roots, err)
	}
	list, err := c.CRL(t.Context())
	must(t, err)
	if _, err := w.config.CA.VerifyCRL(list); err != nil {
		t.Error(err)
	}
	own := client(*pair(certs, key))
	if again, err := own.Reenroll(t.Context(), csrDER(t, key, ""), "", nil); err != nil || again[0].SerialNumber.Cmp(certs[0].SerialNumber) == 0 {
		t.Errorf("renewal: %v", err)
	}
	d.NewKey(enrolment.Reporting)
	if challenge, err = own.Challenge(t.Context(), d.Request(tenant)); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Reenroll(t.Context(), csrDER(t, d.Signer(enrolment.Reporting), ""), challenge.ID, d.Activate(challenge.Credential)); err != nil {
		t.Errorf("renewal of the key: %v", err)
	}
}
