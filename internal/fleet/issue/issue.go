// Package issue makes the certificates of devices, or has them made: by an
// authority whose key lies in a file, with its revocation list, or by another EST
// server (RFC 5280, sections 4 and 5; IEEE 802.1AR, section 8; RFC 7030, section
// 4.2). Who may have one was decided before; what a certificate says comes from
// there and never from the request for it.
package issue

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"ward/internal/trust/enrolment"
)

// MaxCSR bounds a certification request, in bytes of DER: a P-256 key, its
// signature, and names of a few hundred bytes.
const MaxCSR = 8 << 10

var (
	// ErrCSR: not a certification request that a certificate can be made for.
	ErrCSR = errors.New("not a certification request (PKCS #10) that a P-256 key has signed")
	// ErrAway: the authority gives nothing now; later it may.
	ErrAway = errors.New("the issuing authority gives no certificates now")
)

// Want is a certificate that somebody may have.
type Want struct {
	Tenant, Device string
	Use            enrolment.Use
	CSR            *x509.CertificateRequest // from ParseCSR
}

// Authority issues certificates. It returns them with those above them but for
// the root, leaf first. ErrAway: it cannot now.
type Authority interface {
	Issue(ctx context.Context, now time.Time, w Want) ([]*x509.Certificate, error)
}

// ParseCSR reads a certification request in DER, for a P-256 key, and verifies
// that this key has signed it.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > MaxCSR {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrCSR, MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	if key, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: its key is of the kind %s", ErrCSR, csr.PublicKeyAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	return csr, nil
}

// URI names a device in its certificate (subjectAltName).
func URI(tenant, device string, use enrolment.Use) *url.URL {
	name := "ward:" + tenant + ":" + device
	if use == enrolment.Service {
		name += ":service"
	}
	return &url.URL{Scheme: "urn", Opaque: name}
}

// check says whether a certificate is what was wanted: for this key, of this
// device and no other, for clients and nothing else, and beneath the roots.
func (w Want) check(now time.Time, roots *Roots, chain []*x509.Certificate) error {
	leaf := chain[0]
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !key.Equal(w.CSR.PublicKey) {
		return errors.New("it is for another key")
	}
	if leaf.Subject.CommonName != w.Device {
		return fmt.Errorf("it is of %.80q", leaf.Subject.CommonName)
	}
	for _, u := range leaf.URIs {
		if u.Scheme == "urn" && u.String() != URI(w.Tenant, w.Device, w.Use).String() {
			return fmt.Errorf("it is of %.80q", u)
		}
	}
	if leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(leaf.UnknownExtKeyUsage) > 0 {
		return errors.New("it is not for clients alone")
	}
	if len(leaf.SerialNumber.Bytes()) == 0 || leaf.SerialNumber.Sign() < 0 || len(leaf.SerialNumber.Bytes()) > maxSerial {
		return errors.New("it has no serial number that can be revoked")
	}
	if _, err := roots.Verify(now, leaf, chain[1:]...); err != nil {
		return err
	}
	return nil
}

// maxSerial bounds a serial number, in bytes (RFC 5280, section 4.1.2.2).
const maxSerial = 20
