package imasig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxKeys bounds the keys of one file: a distribution's bundle has a few dozen.
const maxKeys = 1024

// Key is a public key that signatures are verified against. Nothing of its
// certificate but the key and its names is looked at: who trusts it has given it.
type Key struct {
	Name string // the certificate's subject; "key " and its id where there is none

	public      crypto.PublicKey
	ids         [][]byte          // by which signatures name it: the SHA-1 of the key, the certificate's key identifier
	certificate *x509.Certificate // nil: a bare key
}

// Keys are the keys that are given.
type Keys []Key

// ErrNoKey is the error for input that holds no key that can be used.
var ErrNoKey = errors.New("no X.509 certificate and no RSA or ECDSA public key")

// ParseKeys reads certificates and public keys (SubjectPublicKeyInfo, or PKCS #1
// for RSA): one as DER, or any number as PEM. A PEM file may hold other things
// beside them.
func ParseKeys(b []byte) (Keys, error) {
	if block, rest := pem.Decode(b); block != nil {
		var keys Keys
		for ; block != nil; block, rest = pem.Decode(rest) {
			switch block.Type {
			case "CERTIFICATE", "TRUSTED CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY":
			default:
				continue
			}
			k, err := parseKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse key %d: %w", len(keys)+1, err)
			}
			if keys = append(keys, k); len(keys) > maxKeys {
				return nil, fmt.Errorf("parse keys: more than %d", maxKeys)
			}
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("parse keys: %w", ErrNoKey)
		}
		return keys, nil
	}
	k, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	return Keys{k}, nil
}

func parseKey(der []byte) (Key, error) {
	if c, err := x509.ParseCertificate(der); err == nil {
		k := Key{Name: c.Subject.String(), public: c.PublicKey, certificate: c, ids: [][]byte{keyHash(c.RawSubjectPublicKeyInfo)}}
		if id := c.SubjectKeyId; len(id) >= keyIDSize && !bytes.Equal(id, k.ids[0]) {
			k.ids = append(k.ids, id)
		}
		if k.Name == "" {
			k.Name = bareName(k.ids[0])
		}
		return k, usable(k.public)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		if public, err = x509.ParsePKCS1PublicKey(der); err != nil {
			return Key{}, ErrNoKey
		}
		if der, err = x509.MarshalPKIXPublicKey(public); err != nil {
			return Key{}, ErrNoKey
		}
	}
	id := keyHash(der)
	return Key{Name: bareName(id), public: public, ids: [][]byte{id}}, usable(public)
}

func bareName(id []byte) string { return "key " + hex.EncodeToString(id[len(id)-keyIDSize:]) }

func usable(public crypto.PublicKey) error {
	switch public.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return nil
	}
	return ErrNoKey
}

// keyHash is the SHA-1 of the key's bits in a SubjectPublicKeyInfo (RFC 5280,
// 4.2.1.2, method 1): how evmctl and openssl name a key.
func keyHash(spki []byte) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return make([]byte, sha1.Size)
	}
	sum := sha1.Sum(info.Key.RightAlign())
	return sum[:]
}

// named returns the keys whose id ends as a signature names it.
func (keys Keys) named(id []byte) Keys {
	var list Keys
	for _, k := range keys {
		for _, own := range k.ids {
			if bytes.HasSuffix(own, id) {
				list = append(list, k)
				break
			}
		}
	}
	return list
}

// verify tells whether a signature over a digest is by the key: PKCS #1 v1.5, or
// ECDSA in ASN.1 (public_key.c).
func (k Key) verify(hash crypto.Hash, digest, signature []byte) bool {
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	}
	return false
}

// try verifies with each of the keys that a signature names.
func (keys Keys) try(r Result, hash crypto.Hash, digest, signature []byte) Result {
	if len(keys) == 0 {
		r.State = UnknownKey
		return r
	}
	for _, k := range keys {
		if k.verify(hash, digest, signature) {
			r.State, r.Key = Good, k.Name
			return r
		}
	}
	r.State, r.Key, r.Reason = Bad, keys[0].Name, "the signature is not by this key over this digest"
	return r
}
