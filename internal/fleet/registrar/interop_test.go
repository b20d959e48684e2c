package registrar_test

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"

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
