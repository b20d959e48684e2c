// Package certsonly reads and writes the answers of EST: certificates in a CMS
// SignedData that nobody signed (RFC 5652, section 5; RFC 7030, sections 4.1.3 and
// 4.2.3), and the Base64 that wraps them and certification requests in HTTP bodies
// (RFC 8951, section 3). Nothing in such a message is vouched for but by the
// certificates' own signatures.
package certsonly

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
)

// Bounds. A chain has two to four certificates of 400 to 1,500 bytes, a list of
// roots a few more.
const (
	MaxCertificates = 16
	MaxMessage      = 64 << 10
)

// ErrFormat: not a certs-only message. ErrBER: it is encoded with lengths that are
// open until they end (BER, X.690 section 8.1.3.6), which only DER's readers
// refuse; the peer must send DER (RFC 7030, section 4.1.3). It wraps ErrFormat.
var (
	ErrFormat = errors.New("not a certs-only PKCS #7 message")
	ErrBER    = fmt.Errorf("%w: it has indefinite lengths (BER), want DER", ErrFormat)
)

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// contentInfo is ContentInfo with a SignedData (RFC 5652, sections 3 and 5.1).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version      int
	Digests      []asn1.RawValue `asn1:"set"`
	Encapsulated struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	Certificates asn1.RawValue   `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue   `asn1:"optional,tag:1"`
	Signers      []asn1.RawValue `asn1:"set"`
}

// Parse reads a message in DER and returns its 1 to 16 certificates in its order.
// A message with signers, content or CRLs is refused, as is one in BER (ErrBER).
// Errors wrap ErrFormat.
func Parse(der []byte) ([]*x509.Certificate, error) {
	certs, err := parse(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificates: %w", err)
	}
	return certs, nil
}

func parse(der []byte) ([]*x509.Certificate, error) {
	if len(der) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrFormat, len(der), MaxMessage)
	}
	var info contentInfo
	rest, err := asn1.Unmarshal(der, &info)
	d := &info.Content
	switch {
	case err != nil && (len(der) > 1 && der[1] == 0x80 || strings.Contains(err.Error(), "indefinite length")):
		return nil, ErrBER
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	case len(rest) > 0:
		return nil, fmt.Errorf("%w: %d bytes behind it", ErrFormat, len(rest))
	case !info.Type.Equal(oidSignedData):
		return nil, fmt.Errorf("%w: content of the type %.80s", ErrFormat, info.Type)
	case len(d.Signers) > 0:
		return nil, fmt.Errorf("%w: it is signed", ErrFormat)
	case !d.Encapsulated.Type.Equal(oidData) || len(d.Encapsulated.Content.FullBytes) > 0:
		return nil, fmt.Errorf("%w: it holds more than certificates", ErrFormat)
	case len(d.CRLs.Bytes) > 0:
		return nil, fmt.Errorf("%w: it holds revocation lists", ErrFormat)
	}
	return parseSet(d.Certificates.Bytes)
}

func parseSet(left []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(left) > 0 {
		if len(certs) == MaxCertificates {
			return nil, fmt.Errorf("%w: more than %d certificates", ErrFormat, MaxCertificates)
		}
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(left, &raw)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrFormat, len(certs)+1, err)
		}
		cert, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrFormat, len(certs)+1, err)
		}
		certs, left = append(certs, cert), rest
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%w: it holds no certificate", ErrFormat)
	}
	return certs, nil
}

// Marshal writes 1 to 16 certificates in their order, as openssl does. (DER would
// sort them; who asks for a certificate looks for the leaf first.) More, none or
// too large ones are an error.
func Marshal(certs []*x509.Certificate) ([]byte, error) {
	if len(certs) == 0 || len(certs) > MaxCertificates {
		return nil, fmt.Errorf("write certificates: %d, want 1 to %d", len(certs), MaxCertificates)
	}
	info := contentInfo{Type: oidSignedData, Content: signedData{Version: 1}}
	info.Content.Encapsulated.Type = oidData
	set := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true}
	for _, c := range certs {
		set.Bytes = append(set.Bytes, c.Raw...)
	}
	info.Content.Certificates = set
	der, err := asn1.Marshal(info)
	switch {
	case err != nil:
		return nil, fmt.Errorf("write certificates: %w", err)
	case len(der) > MaxMessage:
		return nil, fmt.Errorf("write certificates: %d bytes, at most %d are read", len(der), MaxMessage)
	}
	return der, nil
}
