package imasig

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"

	"ward/internal/format/ima"
)

// maxSigners bounds the signers of one appended signature; the kernel's sign-file
// writes one.
const maxSigners = 16

// Object identifiers of RFC 5652 and of the hash algorithms.
var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

	hashes = []struct {
		oid asn1.ObjectIdentifier
		algorithm
	}{
		{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, algorithm{"sha1", crypto.SHA1}},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, algorithm{"sha256", crypto.SHA256}},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, algorithm{"sha384", crypto.SHA384}},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, algorithm{"sha512", crypto.SHA512}},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}, algorithm{"sha224", crypto.SHA224}},
	}
)

// contentInfo is ContentInfo with a SignedData (RFC 5652, 3 and 5.1).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version      int
	Digests      asn1.RawValue
	Encapsulated struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      asn1.RawValue // SET OF SignerInfo, read one by one
}

// signerInfo is SignerInfo (RFC 5652, 5.3).
type signerInfo struct {
	Version    int
	SID        asn1.RawValue // issuer and serial number, or [0] a key identifier
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
	Unsigned   asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// verifyAppended verifies the signature at a file's end over the digest of what
// stands before it (d-modsig). As in the kernel, it is detached and has no signed
// attributes (verification.c of certs, VERIFYING_MODULE_SIGNATURE). With more than
// one signer the worst result counts, but one unknown beside a good one does not.
func verifyAppended(e ima.Entry, keys Keys) Result {
	if len(e.ModSignature) == 0 {
		return Result{}
	}
	var info contentInfo
	rest, err := asn1.Unmarshal(e.ModSignature, &info)
	switch d := &info.Content; {
	case err != nil || len(rest) > 0:
		return unsupported("it is no CMS signature")
	case !info.Type.Equal(oidSignedData) || !d.Encapsulated.Type.Equal(oidData):
		return unsupported("it is no CMS signature over data")
	case len(d.Encapsulated.Content.FullBytes) > 0:
		return unsupported("it holds what it signs")
	case d.Signers.Class != asn1.ClassUniversal || d.Signers.Tag != asn1.TagSet:
		return unsupported("it is no CMS signature")
	}
	var digest ima.FileDigest
	if !digest.Parse(e.Field("d-modsig")) {
		return unsupported("the entry lacks the digest of the file without its signature")
	}
	var worst Result
	left := info.Content.Signers.Bytes
	for n := 0; len(left) > 0; n++ {
		var s signerInfo
		if left, err = asn1.Unmarshal(left, &s); err != nil || n == maxSigners {
			return unsupported("its signers cannot be read")
		}
		worst = worse(worst, verifySigner(s, digest, keys))
	}
	if worst.State == None {
		return unsupported("it has no signer")
	}
	return worst
}

// worse is the result that counts of two signers.
func worse(a, b Result) Result {
	rank := map[State]int{None: 0, Unsupported: 1, UnknownKey: 2, Good: 3, Bad: 4}
	if rank[b.State] > rank[a.State] {
		return b
	}
	return a
}

func verifySigner(s signerInfo, digest ima.FileDigest, keys Keys) Result {
	named, id := keys.signer(s.SID)
	r := Result{KeyID: id}
	var used algorithm
	for _, h := range hashes {
		if h.oid.Equal(s.Digest.Algorithm) {
			used = h.algorithm
		}
	}
	r.Algorithm = used.name
	switch {
	case used.hash == 0:
		r.Reason = "its hash algorithm is " + s.Digest.Algorithm.String()
	case len(s.Attributes.FullBytes) > 0:
		r.Reason = "it has signed attributes, which the kernel refuses"
	case digest.Algorithm != used.name || len(digest.Digest) != used.hash.Size():
		r.Reason = unsupported("it is over a digest of %s, and the entry holds one of %.16q", used.name, digest.Algorithm).Reason
	default:
		return named.try(r, used.hash, digest.Digest, s.Signature)
	}
	r.State = Unsupported
	return r
}

// signer returns the keys that a signer names, and the name. A bare key has no
// issuer: where one is named, the bare keys are tried beside its certificate and
// count where they fit, since what does not fit may be by any other key.
func (keys Keys) signer(sid asn1.RawValue) (named signers, id string) {
	if sid.Class == asn1.ClassContextSpecific && sid.Tag == 0 {
		for _, k := range keys {
			for _, own := range k.ids {
				if bytes.Equal(own, sid.Bytes) {
					named.sure = append(named.sure, k)
					break
				}
			}
		}
		return named, hex.EncodeToString(sid.Bytes[:min(len(sid.Bytes), maxShownID)])
	}
	var by issuerAndSerial
	if rest, err := asn1.Unmarshal(sid.FullBytes, &by); err != nil || len(rest) > 0 || by.Serial == nil {
		return named, ""
	}
	for _, k := range keys {
		switch {
		case k.certificate == nil:
			named.perhaps = append(named.perhaps, k)
		case bytes.Equal(k.certificate.RawIssuer, by.Issuer.FullBytes) && k.certificate.SerialNumber.Cmp(by.Serial) == 0:
			named.sure = append(named.sure, k)
		}
	}
	serial := by.Serial.Bytes()
	return named, "serial " + hex.EncodeToString(serial[:min(len(serial), maxShownID)])
}

// maxShownID is how much of a key's name in a signature is shown, in bytes: the
// longest serial number (RFC 5280, 4.1.2.2) and the usual key identifier.
const maxShownID = 20

// signers are the keys that a signer names, for sure or perhaps.
type signers struct{ sure, perhaps Keys }

func (s signers) try(r Result, hash crypto.Hash, digest, signature []byte) Result {
	for _, k := range s.perhaps {
		if k.verify(hash, digest, signature) {
			r.State, r.Key = Good, k.Name
			return r
		}
	}
	return s.sure.try(r, hash, digest, signature)
}
