package enrolment

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"ward/internal/format/endorsement"
)

var (
	oidAlternativeName = asn1.ObjectIdentifier{2, 5, 29, 17}
	// oidEKCertificate is tcg-kp-EKCertificate (EK Credential Profile, section
	// 3.2.16).
	oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
)

// tagDirectoryName is the form of a GeneralName that holds manufacturer, model and
// version of a TPM (RFC 5280, section 4.2.1.6; EK Credential Profile, section
// 3.2.9).
const tagDirectoryName = 4

// parseEK reads a certificate of an endorsement key (EK Credential Profile,
// section 3.2) and checks that it is one. Manufacturer, model and version of the
// TPM are not asked for: they are the maker's word about itself. A key that is
// marked for one algorithm only (RSAES-OAEP) cannot be read.
func parseEK(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign != 0 {
		return nil, errors.New("it is the certificate of an authority")
	}
	if err := checkCritical(cert); err != nil {
		return nil, err
	}
	if err := checkPurpose(cert); err != nil {
		return nil, err
	}
	if _, _, err := endorsement.Protection(cert.PublicKey); err != nil {
		return nil, err
	}
	return cert, nil
}

// checkCritical takes out of the unhandled critical extensions the one that EK
// certificates have: a subject alternative name that consists of directory names,
// which Go's library does not read.
func checkCritical(cert *x509.Certificate) error {
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, func(oid asn1.ObjectIdentifier) bool {
		return oid.Equal(oidAlternativeName) && onlyDirectoryNames(cert)
	})
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("the critical extension %.80s is not understood", cert.UnhandledCriticalExtensions[0])
	}
	return nil
}

func onlyDirectoryNames(cert *x509.Certificate) bool {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidAlternativeName) {
			continue
		}
		var names []asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &names)
		return err == nil && len(rest) == 0 && len(names) > 0 && !slices.ContainsFunc(names, func(n asn1.RawValue) bool {
			return n.Class != asn1.ClassContextSpecific || n.Tag != tagDirectoryName
		})
	}
	return false
}

// checkPurpose wants the purpose of endorsement keys among the extended key
// usages. Some makers state none: then the key usage must be to encipher or to
// agree on keys, and nothing else.
func checkPurpose(cert *x509.Certificate) error {
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) > 0 {
		if !slices.ContainsFunc(cert.UnknownExtKeyUsage, oidEKCertificate.Equal) {
			return fmt.Errorf("its extended key usages do not name endorsement keys (%s)", oidEKCertificate)
		}
		return nil
	}
	const storage = x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if cert.KeyUsage&storage == 0 || cert.KeyUsage&^storage != 0 {
		return fmt.Errorf("without extended key usages its key usage must be to encipher or to agree on keys, and is %#x", int(cert.KeyUsage))
	}
	return nil
}

// verifyChain finds a way from the certificate to a root of the makers. What a
// device sends beside its certificate is trusted in nothing: a certificate among it
// that cannot be read is passed over. Names and dates of every certificate count:
// a maker's authority that has expired must be replaced in the makers by its
// successor. Most EK certificates never expire (their date is in the year 9999).
// Revocation lists of makers are not asked for.
func verifyChain(ek *x509.Certificate, above [][]byte, t Terms) error {
	if t.Now.IsZero() { // crypto/x509 would take the machine's clock
		return errors.New("no time to judge it by")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, m := range t.Makers {
		if selfSigned(m) {
			roots.AddCert(m)
		} else {
			between.AddCert(m)
		}
	}
	for _, der := range above {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	_, err := ek.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: t.Now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // checkPurpose has looked at it
	})
	if err != nil {
		return fmt.Errorf("issuer %.200q: %w", ek.Issuer.String(), err)
	}
	return nil
}

func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil
}
