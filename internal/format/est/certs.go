package est

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// maxCerts bounds the certificates of one body: a chain, or the fleet's roots
// with those of a rollover.
const maxCerts = 16

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
)

// contentInfo is the outer frame (RFC 5652, section 3).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0"`
}

// signedData is a SignedData without signers (section 5.1).
type signedData struct {
	Version      int
	Digests      asn1.RawValue // SET
	Encapsulated struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      asn1.RawValue // SET
}

var emptySet = asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true}

// EncodeCerts writes certificates, DER, as a PKCS #7 that holds nothing else, in
// the given order.
func EncodeCerts(certs [][]byte) ([]byte, error) {
	sd := signedData{Version: 1, Digests: emptySet, Signers: emptySet}
	sd.Encapsulated.Type = oidData
	sd.Certificates = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: bytes.Join(certs, nil)}
	inner, err := asn1.Marshal(sd)
	if err != nil {
		return nil, fmt.Errorf("encode certificates: %w", err)
	}
	der, err := asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}})
	if err != nil {
		return nil, fmt.Errorf("encode certificates: %w", err)
	}
	return der, nil
}

// ParseCerts reads the certificates of a PKCS #7 in DER, in their order, at least
// one. What else it may hold says nothing: nobody has verified a signature of it.
func ParseCerts(der []byte) ([]*x509.Certificate, error) {
	if len(der) > MaxBody {
		return nil, fmt.Errorf("parse certificates: %w: more than %d bytes", ErrFormat, MaxBody)
	}
	var info contentInfo
	if err := unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("parse certificates: %w: %w", ErrFormat, err)
	}
	if !info.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("parse certificates: %w: content of type %s, want SignedData", ErrFormat, info.Type)
	}
	var sd signedData
	if err := unmarshal(info.Content.Bytes, &sd); err != nil {
		return nil, fmt.Errorf("parse certificates: %w: %w", ErrFormat, err)
	}
	var certs []*x509.Certificate
	for rest := sd.Certificates.Bytes; len(rest) > 0; {
		if len(certs) == maxCerts {
			return nil, fmt.Errorf("parse certificates: %w: more than %d certificates", ErrFormat, maxCerts)
		}
		var one asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil, fmt.Errorf("parse certificates: %w: %w", ErrFormat, err)
		}
		cert, err := x509.ParseCertificate(one.FullBytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificates: %w: %w", ErrFormat, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("parse certificates: %w: there are none", ErrFormat)
	}
	return certs, nil
}

func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow it", len(rest))
	}
	return err
}
