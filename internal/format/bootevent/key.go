package bootevent

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"time"

	"ward/internal/format/efi"
	"ward/internal/format/pcr"
)

// Key is one entry of a signature list: a certificate, or the hash of an image
// or of a certificate (UEFI 32.4.1).
type Key struct {
	List    efi.GUID   // efi.CertX509, efi.CertSHA256 and the like
	Owner   efi.GUID   // who put it there; zero where it was measured without
	Digest  pcr.Digest // SHA-256 of a certificate or of a key of another kind; the hash itself
	IsHash  bool       // Digest is the entry itself
	DER     []byte     // of a certificate
	Revoked time.Time  // of the hash of a certificate: from when on it counts; zero: always
}

// Certificate reads a certificate; nil where the key is none, or cannot be read.
func (k Key) Certificate() *Certificate {
	if k.DER == nil {
		return nil
	}
	return certificate(k.DER)
}

// MarshalJSON writes all that is known of a key.
func (k Key) MarshalJSON() ([]byte, error) {
	v := struct {
		Type        string       `json:"type"` // "x509", "sha256" and the like; a GUID where it is unknown
		Owner       string       `json:"owner,omitempty"`
		Digest      pcr.Digest   `json:"digest"`
		Hash        bool         `json:"hash"`
		Certificate *Certificate `json:"certificate,omitempty"`
		Revoked     *time.Time   `json:"revoked,omitempty"`
	}{Type: k.List.Name(), Digest: k.Digest, Hash: k.IsHash, Certificate: k.Certificate()}
	if k.Owner != (efi.GUID{}) {
		v.Owner = k.Owner.String()
	}
	if !k.Revoked.IsZero() {
		v.Revoked = &k.Revoked
	}
	return json.Marshal(v)
}

// Certificate is what a certificate says. Nothing is verified: firmware takes
// what lies in its lists for trusted, whatever the dates say.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// hashLists give the length of the hash in lists of hashes.
var hashLists = map[efi.GUID]int{
	efi.CertSHA1: 20, efi.CertSHA256: 32, efi.CertSHA384: 48, efi.CertSHA512: 64,
	efi.CertX509SHA256: 32, efi.CertX509SHA384: 48, efi.CertX509SHA512: 64,
}

// Keys reads the value of a variable that holds signature lists. The error is
// for a value that is none.
func (v Variable) Keys() ([]Key, error) {
	lists, err := efi.ParseSignatureLists(v.Data)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, l := range lists {
		n += len(l.Signatures)
	}
	keys := make([]Key, 0, n)
	for _, l := range lists {
		for _, s := range l.Signatures {
			keys = append(keys, newKey(l.Type, s))
		}
	}
	return keys, nil
}

func newKey(list efi.GUID, s efi.Signature) Key {
	k := Key{List: list, Owner: s.Owner}
	if n, ok := hashLists[list]; ok && len(s.Data) >= n {
		k.IsHash, k.Digest = true, pcr.Digest(s.Data[:n:n])
		k.Revoked = efiTime(s.Data[n:])
		return k
	}
	sum := sha256.Sum256(s.Data)
	k.Digest = sum[:]
	if list == efi.CertX509 {
		k.DER = s.Data
	}
	return k
}

// efiTime reads the EFI_TIME behind the hash of a certificate; zero where there
// is none, which is "always".
func efiTime(b []byte) time.Time {
	const size = 16
	const latest = 9999 // what RFC 3339 can hold
	if len(b) != size || isZero(b) || binary.LittleEndian.Uint16(b) > latest || b[2] > 12 || b[3] > 31 {
		return time.Time{}
	}
	return time.Date(int(binary.LittleEndian.Uint16(b)), time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
}

func certificate(der []byte) *Certificate {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	return &Certificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: hex.EncodeToString(c.SerialNumber.Bytes()),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
}

// AuthorityKey reads the value of an authority: a certificate or a hash, behind
// its owner as firmware measures it or without, as shim does. ok is false for
// anything else.
func (v Variable) AuthorityKey() (k Key, ok bool) {
	b := v.Data
	if isDER(b) {
		return newKey(efi.CertX509, efi.Signature{Data: b}), true
	}
	if n := len(b); n == pcr.SHA256.Size() {
		return newKey(efi.CertSHA256, efi.Signature{Data: b}), true
	} else if n == pcr.SHA1.Size() {
		return newKey(efi.CertSHA1, efi.Signature{Data: b}), true
	}
	s, err := efi.ParseSignature(b)
	if err != nil {
		return Key{}, false
	}
	if isDER(s.Data) {
		return newKey(efi.CertX509, s), true
	}
	for _, list := range []efi.GUID{efi.CertSHA256, efi.CertSHA1, efi.CertSHA384, efi.CertSHA512} {
		if len(s.Data) == hashLists[list] {
			return newKey(list, s), true
		}
	}
	return Key{}, false
}

// isDER tells bytes that are one DER sequence with a length of two bytes, as
// every certificate is.
func isDER(b []byte) bool {
	const head = 4
	return len(b) > head && b[0] == 0x30 && b[1] == 0x82 && int(binary.BigEndian.Uint16(b[2:])) == len(b)-head
}

// String names the certificate's subject, or the hash.
func (k Key) String() string {
	if c := k.Certificate(); c != nil {
		return c.Subject
	}
	if k.DER != nil {
		return "certificate " + k.Digest.String()
	}
	return "hash " + k.Digest.String()
}
