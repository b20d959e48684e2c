package serverauth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"

	"ward/internal/trust/finding"
)

// Step is the part of a connection that failed, in the order in which they come.
type Step string

// Steps.
const (
	Reach      Step = "reach"      // a connection to the server's port
	Version    Step = "version"    // TLS 1.3
	Trust      Step = "trust"      // a chain to the fleet's roots
	Name       Step = "name"       // the certificate is for the configured name
	Time       Step = "time"       // and valid now
	Usage      Step = "usage"      // and for a server
	Strength   Step = "strength"   // keys and signatures that cannot be forged
	Revocation Step = "revocation" // not on the fleet's list
	Admission  Step = "admission"  // the server admits this device
)

// Refusal is the cause of a connection that did not come about.
type Refusal struct {
	Code   finding.Code
	Step   Step
	Detail string // one line
}

// Finding is the refusal as a finding, with its remedy.
func (r Refusal) Finding() finding.Finding { return finding.New(r.Code, r.Detail) }

// texts of crypto/tls that have no type of their own.
const (
	alertVersion   = "protocol version not supported"        // alert 70 (RFC 8446, section 6.2)
	ownVersion     = "server selected unsupported protocol"  // a server that answers in an older version
	oldHello       = "first record does not look like a TLS" // no TLS at all
	remoteAlert    = "remote error: tls: "
	notYetValid    = "is before" // of x509.CertificateInvalidError.Detail
	downgradeAlert = "downgrade attempt detected"
)

// Explain names the one cause of an error of a TLS connection or of Check. What
// it cannot place is a server out of reach.
func Explain(err error) Refusal {
	detail := line(err)
	as := func(code finding.Code, step Step) Refusal { return Refusal{code, step, detail} }
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		insecure  x509.InsecureAlgorithmError
		verify    *tls.CertificateVerificationError
		header    tls.RecordHeaderError
	)
	if errors.As(err, &verify) {
		err = weaker(verify.UnverifiedCertificates, err)
	}
	switch {
	case err == nil:
		return Refusal{}
	case errors.Is(err, ErrWeakKey), errors.Is(err, ErrWeakSign), errors.As(err, &insecure):
		return as(finding.LinkServerWeak, Strength)
	case errors.Is(err, ErrRevoked):
		return as(finding.LinkServerRevoked, Revocation)
	case errors.Is(err, ErrCRLStale), errors.Is(err, ErrCRLSignature), errors.Is(err, ErrCRLFormat), errors.Is(err, ErrCRLOlder):
		return as(finding.LinkCRLStale, Revocation)
	case errors.Is(err, ErrNoChain):
		return as(finding.LinkServerUntrusted, Trust)
	case errors.As(err, &name):
		return as(finding.LinkServerName, Name)
	case errors.As(err, &authority):
		if c := authority.Cert; c != nil && selfSigned(c) {
			detail = "the server's certificate is self-signed: " + detail
		}
		return as(finding.LinkServerUntrusted, Trust)
	case errors.As(err, &invalid):
		return as(explainInvalid(invalid))
	case errors.As(err, &verify), errors.As(err, &header):
		return as(finding.LinkServerUntrusted, Trust)
	}
	return explainText(err, as)
}

func explainInvalid(e x509.CertificateInvalidError) (finding.Code, Step) {
	switch {
	case e.Reason == x509.Expired && strings.Contains(e.Detail, notYetValid):
		return finding.LinkServerNotYetValid, Time
	case e.Reason == x509.Expired:
		return finding.LinkServerExpired, Time
	case e.Reason == x509.IncompatibleUsage:
		return finding.LinkServerUsage, Usage
	}
	return finding.LinkServerUntrusted, Trust
}

// explainText places what crypto/tls says in words alone: alerts of the other
// side, and its own complaints about the protocol.
func explainText(err error, as func(finding.Code, Step) Refusal) Refusal {
	text := err.Error()
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case has(alertVersion), has(ownVersion), has(downgradeAlert):
		return as(finding.LinkTLSVersion, Version)
	case has(remoteAlert):
		return as(finding.LinkRefused, Admission)
	case has(oldHello):
		return as(finding.LinkServerUntrusted, Trust)
	case errors.Is(err, io.EOF), !has("tls: "):
		return as(finding.LinkDown, Reach)
	}
	return as(finding.LinkServerUntrusted, Trust)
}

// line is an error in one line.
func line(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
