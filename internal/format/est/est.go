// Package est reads and writes the bodies of Enrollment over Secure Transport:
// DER in base64, and certificates as a PKCS #7 of nothing but certificates (RFC
// 7030, sections 3.2 to 4.5; RFC 8951, section 3; RFC 5652, section 5).
package est

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
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

// MaxBody bounds a body that is read, in bytes of base64: sixteen certificates
// at their longest.
const MaxBody = 256 << 10

// ErrFormat: not a body of this kind.
var ErrFormat = errors.New("not a body of EST")

// lineLength is what openssl reads without asking.
const lineLength = 64

// EncodeBody writes DER in base64, in lines.
func EncodeBody(der []byte) []byte {
	text := base64.StdEncoding.EncodeToString(der)
	var b bytes.Buffer
	for len(text) > 0 {
		n := min(lineLength, len(text))
		b.WriteString(text[:n])
		b.WriteByte('\n')
		text = text[n:]
	}
	return b.Bytes()
}

// ParseBody reads base64 with or without line breaks.
func ParseBody(body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("parse body: %w: more than %d bytes", ErrFormat, MaxBody)
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Strict().Decode(der, bytes.TrimSpace(body)) // skips line breaks
	if err != nil {
		return nil, fmt.Errorf("parse body: %w: %w", ErrFormat, err)
	}
	if n == 0 {
		return nil, fmt.Errorf("parse body: %w: it is empty", ErrFormat)
	}
	return der[:n], nil
}
