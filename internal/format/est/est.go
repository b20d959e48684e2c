// Package est is what both ends of Enrollment over Secure Transport must agree on:
// the paths of its operations, their content types, and how bodies are written
// (RFC 7030, sections 3.2 to 4.5; RFC 8951, section 3).
package est

import (
	"errors"
	"fmt"

	"ward/internal/format/certsonly"
)

// Paths of the operations, and of Ward's own beside them.
const (
	PathCACerts        = "/.well-known/est/cacerts"
	PathCSRAttrs       = "/.well-known/est/csrattrs"
	PathSimpleEnroll   = "/.well-known/est/simpleenroll"
	PathSimpleReenroll = "/.well-known/est/simplereenroll"
	PathTPMChallenge   = "/.well-known/est/tpm/challenge"
	PathCRL            = "/.well-known/ward/crl"
)

// Content types.
const (
	TypeCSR      = "application/pkcs10"
	TypeCerts    = "application/pkcs7-mime; smime-type=certs-only"
	TypeCSRAttrs = "application/csrattrs"
	TypeCRL      = "application/pkix-crl"
)

// MaxBody bounds a body that is read, in bytes of base64.
const MaxBody = 2 * certsonly.MaxMessage

// ErrFormat: not a body of this kind.
var ErrFormat = errors.New("not a body of EST")

// EncodeBody writes DER in base64, in lines.
func EncodeBody(der []byte) []byte { return certsonly.Encode(der) }

// ParseBody reads base64 with or without white space.
func ParseBody(body []byte) ([]byte, error) {
	der, err := certsonly.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return der, nil
}
