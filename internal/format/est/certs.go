package est

import (
	"crypto/x509"
	"fmt"

	"ward/internal/format/certsonly"
)

// EncodeCerts writes certificates, DER, as a PKCS #7 that holds nothing else, in
// the given order.
func EncodeCerts(ders [][]byte) ([]byte, error) {
	certs := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		var err error
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("encode certificates: %w", err)
		}
	}
	return certsonly.Marshal(certs)
}

// ParseCerts reads the certificates of a PKCS #7 in DER, in their order, at least
// one.
func ParseCerts(der []byte) ([]*x509.Certificate, error) {
	certs, err := certsonly.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return certs, nil
}
