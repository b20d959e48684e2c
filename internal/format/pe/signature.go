package pe

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of signatures
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// Bounds of the signatures of an image; images carry one or two, with a few
// certificates each.
const (
	maxSignatures   = 16
	maxCertificates = 64
	maxChain        = 8 // certificates from signer to root
)

const (
	certificateHead = 8      // WIN_CERTIFICATE: dwLength, wRevision, wCertificateType
	typePKCS7       = 0x0002 // WIN_CERT_TYPE_PKCS_SIGNED_DATA
)

// Signature is a signature of an image that holds: the digest in it is the
// image's, and the signer's key made it. Whether the signer may sign is for
// whoever asks to say.
type Signature struct {
	Signer       *x509.Certificate
	Certificates []*x509.Certificate // all that came with it, the signer's among them
}

// Signatures reads and verifies the signatures of an image; none: it is not
// signed. One that does not hold is an error, as it is for the firmware
// (Authenticode, "PKCS #7 SignedData"; UEFI 32.2.4, WIN_CERTIFICATE).
func (i *Image) Signatures() ([]Signature, error) {
	d := i.header.DataDirectory[certificates]
	if d.Size == 0 {
		return nil, nil
	}
	at, end := uint64(d.VirtualAddress), uint64(d.VirtualAddress)+uint64(d.Size)
	if end > uint64(len(i.bytes)) {
		return nil, fmt.Errorf("read signatures at offset %d: %d bytes do not fit into the image", at, d.Size)
	}
	var list []Signature
	for at+certificateHead <= end {
		if len(list) == maxSignatures {
			return nil, fmt.Errorf("read signatures at offset %d: more than %d", at, maxSignatures)
		}
		length, kind := uint64(binary.LittleEndian.Uint32(i.bytes[at:])), binary.LittleEndian.Uint16(i.bytes[at+6:])
		if length < certificateHead || at+length > end {
			return nil, fmt.Errorf("read signature at offset %d: %d bytes do not fit", at, length)
		}
		if kind == typePKCS7 {
			s, err := i.signature(i.bytes[at+certificateHead : at+length])
			if err != nil {
				return nil, fmt.Errorf("verify signature at offset %d: %w", at, err)
			}
			list = append(list, s)
		}
		at += (length + 7) &^ 7
	}
	return list, nil
}

// LeadsTo tells whether a certificate is the signer's or that of an authority
// above it, by signatures alone: firmware knows no time and no purposes.
func (s Signature) LeadsTo(anchor *x509.Certificate) bool {
	at := s.Signer
	for range maxChain {
		if at.Equal(anchor) || issued(anchor, at) {
			return true
		}
		var next *x509.Certificate
		for _, c := range s.Certificates {
			if !c.Equal(at) && issued(c, at) {
				next = c
			}
		}
		if next == nil {
			return false
		}
		at = next
	}
	return false
}

// issued tells whether the key of an authority signed a certificate.
func issued(authority, c *x509.Certificate) bool {
	return bytes.Equal(authority.RawSubject, c.RawIssuer) &&
		authority.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// The parts of PKCS #7 (RFC 2315, 7, 9.1 and 9.2) and of Authenticode that
// signatures of images have.
type (
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	signedData struct {
		Version      int
		Algorithms   asn1.RawValue
		Content      contentInfo
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
		Lists        asn1.RawValue `asn1:"optional,tag:1"`
		Signers      []signerInfo  `asn1:"set"`
	}
	signerInfo struct {
		Version    int
		Issuer     issuerSerial
		Digest     algorithm
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
		Signing    algorithm
		Signature  []byte
		Unsigned   asn1.RawValue `asn1:"optional,tag:1"`
	}
	issuerSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	attribute struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue `asn1:"set"`
	}
	indirectData struct {
		Data   asn1.RawValue
		Digest struct {
			Algorithm algorithm
			Digest    []byte
		}
	}
)

var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidIndirectData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
)

// hashes of signatures with the names that x509 has for them by kind of key.
var hashes = []struct {
	id         asn1.ObjectIdentifier
	hash       crypto.Hash
	rsa, ecdsa x509.SignatureAlgorithm
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256, x509.SHA256WithRSA, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384, x509.SHA384WithRSA, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512, x509.SHA512WithRSA, x509.ECDSAWithSHA512},
}

// signature verifies one SignedData. What is checked, in this order: its form,
// that it is about an image, that the digest is this image's, that the signed
// attributes name the content's digest, that a certificate of the signer is
// there and its key made the signature.
func (i *Image) signature(der []byte) (Signature, error) {
	var outer contentInfo
	var signed signedData
	if _, err := asn1.Unmarshal(der, &outer); err != nil { // zero padding may follow
		return Signature{}, fmt.Errorf("parse PKCS #7: %w", err)
	}
	if !outer.Type.Equal(oidSignedData) {
		return Signature{}, fmt.Errorf("parse PKCS #7: content of type %s, want signed data", outer.Type)
	}
	if err := whole(outer.Content.Bytes, &signed); err != nil {
		return Signature{}, fmt.Errorf("parse PKCS #7 signed data: %w", err)
	}
	if !signed.Content.Type.Equal(oidIndirectData) {
		return Signature{}, fmt.Errorf("it signs a content of type %s, want an image's digest", signed.Content.Type)
	}
	var content asn1.RawValue
	var about indirectData
	if err := errors.Join(whole(signed.Content.Content.Bytes, &content), whole(signed.Content.Content.Bytes, &about)); err != nil {
		return Signature{}, fmt.Errorf("parse signed digest: %w", err)
	}
	if err := i.holds(about); err != nil {
		return Signature{}, err
	}
	if len(signed.Signers) != 1 {
		return Signature{}, fmt.Errorf("%d signers, want one", len(signed.Signers))
	}
	s := Signature{}
	for rest := signed.Certificates.Bytes; len(rest) > 0; {
		var raw asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &raw); err != nil {
			return Signature{}, fmt.Errorf("parse certificates: %w", err)
		}
		c, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			return Signature{}, fmt.Errorf("parse certificate %d: %w", len(s.Certificates), err)
		}
		if s.Certificates = append(s.Certificates, c); len(s.Certificates) > maxCertificates {
			return Signature{}, fmt.Errorf("more than %d certificates", maxCertificates)
		}
	}
	by := signed.Signers[0]
	for _, c := range s.Certificates {
		if bytes.Equal(c.RawIssuer, by.Issuer.Issuer.FullBytes) && c.SerialNumber.Cmp(by.Issuer.Serial) == 0 {
			s.Signer = c
		}
	}
	if s.Signer == nil {
		return Signature{}, errors.New("the signer's certificate is not in it")
	}
	return s, by.verify(s.Signer, content.Bytes)
}

// holds compares the signed digest with the image's.
func (i *Image) holds(about indirectData) error {
	for _, h := range hashes {
		if !h.id.Equal(about.Digest.Algorithm.ID) {
			continue
		}
		sum := h.hash.New()
		if err := i.Authenticode(sum); err != nil {
			return err
		}
		if !bytes.Equal(sum.Sum(nil), about.Digest.Digest) {
			return errors.New("it is of another image: the digests differ")
		}
		return nil
	}
	return fmt.Errorf("digest algorithm %s, want SHA-256, SHA-384 or SHA-512", about.Digest.Algorithm.ID)
}

// verify checks that the signer's key signed the content.
func (by signerInfo) verify(signer *x509.Certificate, content []byte) error {
	for _, h := range hashes {
		if !h.id.Equal(by.Digest.ID) {
			continue
		}
		message := content
		if len(by.Attributes.FullBytes) > 0 {
			sum := h.hash.New()
			sum.Write(content)
			if err := by.namesDigest(sum.Sum(nil)); err != nil {
				return err
			}
			// What is signed is the attributes as a SET (RFC 2315, 9.3).
			message = bytes.Clone(by.Attributes.FullBytes)
			message[0] = asn1.TagSet | 0x20
		}
		kind := h.rsa
		switch signer.PublicKey.(type) {
		case *rsa.PublicKey:
		case *ecdsa.PublicKey:
			kind = h.ecdsa
		default:
			return fmt.Errorf("the signer has a key of type %s, want RSA or ECDSA", signer.PublicKeyAlgorithm)
		}
		if err := signer.CheckSignature(kind, message, by.Signature); err != nil {
			return fmt.Errorf("the signer's key did not make it: %w", err)
		}
		return nil
	}
	return fmt.Errorf("digest algorithm %s, want SHA-256, SHA-384 or SHA-512", by.Digest.ID)
}

// namesDigest looks for the content's digest among the signed attributes.
func (by signerInfo) namesDigest(sum []byte) error {
	for rest := by.Attributes.Bytes; len(rest) > 0; {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return fmt.Errorf("parse signed attributes: %w", err)
		}
		if !a.Type.Equal(oidMessageDigest) {
			continue
		}
		var digest []byte
		if err := whole(a.Values.Bytes, &digest); err != nil {
			return fmt.Errorf("parse signed digest of the content: %w", err)
		}
		if !bytes.Equal(digest, sum) {
			return errors.New("its content was changed: the digests differ")
		}
		return nil
	}
	return errors.New("the signed attributes name no digest of the content")
}

// whole reads a DER value that nothing follows.
func whole(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		return fmt.Errorf("%d bytes behind it", len(rest))
	}
	return err
}
