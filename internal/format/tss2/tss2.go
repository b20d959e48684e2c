// Package tss2 reads and writes "TSS2 PRIVATE KEY" files: a key or a sealed
// secret that lives outside of its TPM, encrypted by it, in the ASN.1 form that
// OpenSSL's TPM providers read (draft "ASN.1 Specification for TPM 2.0 Key
// Files", sections 3 and 4). Ward's objects lie beneath a persistent parent, and
// what authorises their use is in their public area or known to who uses them: a
// file that says more (a policy, a wrapped import, another parent) is refused
// with the name of what it says.
package tss2

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
)

// Kind says what a file holds.
type Kind int

const (
	Loadable Kind = iota + 1 // a key, 2.23.133.10.1.3
	Sealed                   // a sealed secret, 2.23.133.10.1.5
)

// Bounds, in bytes. A public area of RSA-4096 has some 560, its private part 1,200;
// Ward's P-256 keys have 86 and 126. A file is Base64 of both with little
// around them.
const (
	MaxPublic  = 1 << 10
	MaxPrivate = 2 << 10
	MaxFile    = 8 << 10
)

// FirstParent and LastParent are the handles of persistent objects (TPM 2.0
// Library, Part 2, section 7.2: TPM_HT_PERSISTENT).
const (
	FirstParent uint32 = 0x81000000
	LastParent  uint32 = 0x81ffffff
)

// File is the content of one file.
type File struct {
	Kind      Kind
	EmptyAuth bool   // used with its empty authorisation value
	Parent    uint32 // handle of the persistent parent
	Public    []byte // TPMT_PUBLIC
	Private   []byte // what a TPM2B_PRIVATE holds
}

// ErrFormat: not such a file.
var ErrFormat = errors.New("not a TSS2 PRIVATE KEY file")

const pemType = "TSS2 PRIVATE KEY"

// identifiers are the types of the draft, section 3.1.
var identifiers = map[Kind]asn1.ObjectIdentifier{
	Loadable: {2, 23, 133, 10, 1, 3},
	Sealed:   {2, 23, 133, 10, 1, 5},
}

// strangers are the types that other programs write.
var strangers = []struct {
	oid  asn1.ObjectIdentifier
	what string
}{
	{asn1.ObjectIdentifier{2, 23, 133, 10, 1, 4}, "a key that is yet to be imported into a TPM"},
	{asn1.ObjectIdentifier{2, 23, 133, 10, 2}, "a key of the draft's first form"},
}

// optional are the fields between type and parent that are not taken, by their
// tags.
var optional = map[int]string{
	1: "a policy",
	2: "a secret for an import",
	3: "policies for PolicyAuthorize",
	4: "a description",
	5: "a parent of RSA",
}

// tpmKey is the file as it is written; what Parse refuses has no field.
type tpmKey struct {
	Type      asn1.ObjectIdentifier
	EmptyAuth bool `asn1:"optional,explicit,tag:0"`
	Parent    int64
	Public    []byte // TPM2B_PUBLIC
	Private   []byte // TPM2B_PRIVATE
}

// Parse reads a file in PEM. Anything else in it is refused. Errors wrap
// ErrFormat.
func Parse(text []byte) (File, error) {
	if len(text) > MaxFile {
		return File{}, fmt.Errorf("parse TPM key file: %w: %d bytes, at most %d are read", ErrFormat, len(text), MaxFile)
	}
	f, err := parsePEM(bytes.TrimSpace(text))
	if err != nil {
		return File{}, fmt.Errorf("parse TPM key file: %w: %w", ErrFormat, err)
	}
	return f, nil
}

func parsePEM(text []byte) (File, error) {
	const begin = "-----BEGIN"
	if !bytes.HasPrefix(text, []byte(begin+" "+pemType+"-----")) {
		return File{}, errors.New("it does not begin with " + begin + " " + pemType)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return File{}, errors.New("the PEM text is damaged or cut short")
	case len(rest) > 0 || bytes.Count(text, []byte(begin)) > 1:
		return File{}, errors.New("there is more than one key in it, or text behind the key")
	case len(block.Headers) > 0:
		return File{}, errors.New("it has headers, as encrypted keys have; no TPM reads them")
	}
	return parseDER(block.Bytes)
}

// parseDER reads a TPMKey field by field: encoding/asn1 would pass over what
// stands behind the fields of a structure.
func parseDER(der []byte) (File, error) {
	var fields []asn1.RawValue
	if err := whole(der, &fields); err != nil {
		return File{}, err
	}
	if len(fields) == 0 {
		return File{}, errors.New("it is empty")
	}
	var f File
	var err error
	if f.Kind, err = parseType(fields[0].FullBytes); err != nil {
		return File{}, err
	}
	fields = fields[1:]
	for last := -1; len(fields) > 0 && fields[0].Class == asn1.ClassContextSpecific; fields = fields[1:] {
		tag := fields[0].Tag
		if what, known := optional[tag]; known {
			return File{}, fmt.Errorf("it holds %s, which is not taken", what)
		}
		if tag != 0 || last == 0 || !fields[0].IsCompound {
			return File{}, fmt.Errorf("a field with the tag %d where none may stand", tag)
		}
		if f.EmptyAuth, err = parseBoolean(fields[0].Bytes); err != nil {
			return File{}, err
		}
		last = tag
	}
	if len(fields) != 3 {
		return File{}, fmt.Errorf("%d fields from the parent on, want parent, public and private part", len(fields))
	}
	if f.Parent, err = parseParent(fields[0].FullBytes); err != nil {
		return File{}, err
	}
	if f.Public, err = parseSized(fields[1].FullBytes, MaxPublic); err != nil {
		return File{}, fmt.Errorf("public part: %w", err)
	}
	if f.Private, err = parseSized(fields[2].FullBytes, MaxPrivate); err != nil {
		return File{}, fmt.Errorf("private part: %w", err)
	}
	return f, nil
}

// whole reads one value that fills the bytes.
func whole(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes behind it", len(rest))
	}
	return err
}

func parseType(der []byte) (Kind, error) {
	var oid asn1.ObjectIdentifier
	if err := whole(der, &oid); err != nil {
		return 0, fmt.Errorf("type: %w", err)
	}
	for kind, known := range identifiers {
		if oid.Equal(known) {
			return kind, nil
		}
	}
	for _, s := range strangers {
		if oid.Equal(s.oid) {
			return 0, fmt.Errorf("it holds %s, which is not taken", s.what)
		}
	}
	return 0, fmt.Errorf("unknown type %.80s", oid)
}

// parseBoolean reads emptyAuth. tpm2-openssl 1.1.1 writes TRUE as 01, where DER
// has ff (X.690, section 11.1); both are taken.
func parseBoolean(der []byte) (bool, error) {
	if len(der) == 3 && der[0] == asn1.TagBoolean && der[1] == 1 {
		switch der[2] {
		case 0:
			return false, nil
		case 1, 0xff:
			return true, nil
		}
	}
	return false, fmt.Errorf("no truth value where it says whether it has an authorisation value: %.8x", der)
}

func parseParent(der []byte) (uint32, error) {
	var parent int64
	if err := whole(der, &parent); err != nil {
		return 0, fmt.Errorf("parent: %w", err)
	}
	if parent < int64(FirstParent) || parent > int64(LastParent) {
		return 0, fmt.Errorf("parent 0x%x: want the handle of a persistent object, 0x%x to 0x%x", parent, FirstParent, LastParent)
	}
	return uint32(parent), nil
}

// parseSized reads an octet string with a TPM2B in it.
func parseSized(der []byte, most int) ([]byte, error) {
	var b []byte
	if err := whole(der, &b); err != nil {
		return nil, err
	}
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return nil, fmt.Errorf("%d bytes that do not state their size", len(b))
	}
	if len(b) == 2 || len(b)-2 > most {
		return nil, fmt.Errorf("%d bytes, want 1 to %d", len(b)-2, most)
	}
	return b[2:], nil
}

// PEM writes the file. It is nil for a File that Parse would refuse: of no kind,
// with another parent than a persistent one, with a part that is empty or over
// its bound.
func (f File) PEM() []byte {
	oid, known := identifiers[f.Kind]
	switch {
	case !known, f.Parent < FirstParent, f.Parent > LastParent,
		len(f.Public) == 0, len(f.Public) > MaxPublic, len(f.Private) == 0, len(f.Private) > MaxPrivate:
		return nil
	}
	der, err := asn1.Marshal(tpmKey{oid, f.EmptyAuth, int64(f.Parent), sized(f.Public), sized(f.Private)})
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
}

func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
