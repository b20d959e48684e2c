package petest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"time"

	"ward/internal/format/pe"
)

// Key makes an RSA-2048 key and its certificate, issued by an authority or by
// itself where that is nil. The certificate has long expired: firmware knows no
// time.
func Key(name string, authority *x509.Certificate, by crypto.Signer) (crypto.Signer, *x509.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(1000 + len(name))), Subject: pkix.Name{CommonName: name}, SignatureAlgorithm: x509.SHA256WithRSA,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0), BasicConstraintsValid: true, IsCA: true,
	}
	if authority == nil {
		authority, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), by)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

// SignatureList is an EFI signature list of certificates (UEFI 32.4.1), each in a
// list of its own, owned by nobody.
func SignatureList(certificates ...[]byte) []byte {
	x509Type := []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	le := binary.LittleEndian
	var b []byte
	for _, der := range certificates {
		b = append(b, x509Type...)
		b = le.AppendUint32(b, uint32(28+16+len(der)))
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, uint32(16+len(der)))
		b = append(append(b, make([]byte, 16)...), der...)
	}
	return b
}

// The parts of PKCS #7 and Authenticode that Sign writes.
type (
	algorithm struct {
		ID   asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	attribute struct {
		Type   asn1.ObjectIdentifier
		Values []any `asn1:"set"`
	}
	digestInfo struct {
		Algorithm algorithm
		Digest    []byte
	}
	indirect struct {
		Data   struct{ Type asn1.ObjectIdentifier }
		Digest digestInfo
	}
	issuerSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	signer struct {
		Version    int
		Issuer     issuerSerial
		Digest     algorithm
		Attributes asn1.RawValue
		Signing    algorithm
		Signature  []byte
	}
	content struct {
		Type    asn1.ObjectIdentifier
		Content any `asn1:"explicit,tag:0"`
	}
	signedData struct {
		Version      int
		Algorithms   []algorithm `asn1:"set"`
		Content      content
		Certificates asn1.RawValue
		Signers      []signer `asn1:"set"`
	}
)

var null = asn1.RawValue{FullBytes: []byte{5, 0}}

// Sign adds an Authenticode signature by the key to an image; the certificates,
// the signer's first, travel in it.
func Sign(image []byte, key crypto.Signer, certificates ...*x509.Certificate) ([]byte, error) {
	parsed, err := pe.Parse(image)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if err := parsed.Authenticode(h); err != nil {
		return nil, err
	}
	sha := algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, null}
	about := indirect{Digest: digestInfo{sha, h.Sum(nil)}}
	about.Data.Type = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	der, err := asn1.Marshal(about)
	if err != nil {
		return nil, err
	}
	var inner asn1.RawValue
	if _, err := asn1.Unmarshal(der, &inner); err != nil {
		return nil, err
	}
	oidIndirect := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	sum := sha256.Sum256(inner.Bytes)
	attributes, err := asn1.MarshalWithParams([]attribute{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, []any{oidIndirect}},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, []any{sum[:]}},
	}, "set")
	if err != nil {
		return nil, err
	}
	message := sha256.Sum256(attributes)
	signature, err := key.Sign(rand.Reader, message[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	implicit := bytes.Clone(attributes)
	implicit[0] = 0xa0
	var ders []byte
	for _, c := range certificates {
		ders = append(ders, c.Raw...)
	}
	signed, err := asn1.Marshal(signedData{
		Version: 1, Algorithms: []algorithm{sha}, Content: content{oidIndirect, about},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: ders},
		Signers: []signer{{
			Version: 1, Issuer: issuerSerial{asn1.RawValue{FullBytes: certificates[0].RawIssuer}, certificates[0].SerialNumber},
			Digest: sha, Attributes: asn1.RawValue{FullBytes: implicit},
			Signing: algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, null}, Signature: signature,
		}},
	})
	if err != nil {
		return nil, err
	}
	outer, err := asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: signed}})
	if err != nil {
		return nil, err
	}
	return Attach(image, outer), nil
}

// Attach adds bytes as the signature of an image (UEFI 32.2.4, WIN_CERTIFICATE of
// the type for PKCS #7).
func Attach(image, pkcs7 []byte) []byte {
	le := binary.LittleEndian
	out := bytes.Clone(image)
	out = append(out, make([]byte, (8-len(out)%8)%8)...)
	at := len(out)
	out = le.AppendUint32(out, uint32(8+len(pkcs7)))
	out = le.AppendUint16(out, 0x0200)
	out = le.AppendUint16(out, 2)
	out = append(out, pkcs7...)
	out = append(out, make([]byte, (8-len(out)%8)%8)...)
	le.PutUint32(out[DirectoryAt:], uint32(at))
	le.PutUint32(out[DirectoryAt+4:], uint32(len(out)-at))
	return out
}
