// Package ima parses and replays the list of measurements that the kernel's
// Integrity Measurement Architecture keeps, in its binary and its ASCII form.
// It follows Documentation/security/IMA-templates.rst and, for what that does
// not say (the byte layout, what is hashed and extended), ima_fs.c,
// ima_crypto.c and ima_template_lib.c of the Linux kernel. Lists are read as a
// stream: memory does not grow with their length.
package ima

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"ward/internal/format/pcr"
)

// Register is the PCR that the kernel extends unless a policy rule names
// another (CONFIG_IMA_MEASURE_PCR_IDX).
const Register = 10

// Bounds of one entry. The kernel has none; these are far above what it writes.
const (
	MaxTemplateName = 255      // format strings of custom templates are the longest
	MaxTemplateData = 16 << 20 // ima-buf entries carry whole keys and policies
	MaxFields       = 32       // evm-sig, the longest template of the kernel, has 9
)

// maxEventName is IMA_EVENT_NAME_LEN_MAX + 1: the template ima pads the name to
// this length when it hashes.
const maxEventName = 256

// ErrFormat is the error for input that is no IMA list at all.
var ErrFormat = errors.New("neither a binary nor an ASCII IMA list")

// TruncatedError says that the list ends inside an entry.
type TruncatedError struct {
	Offset int64 // where the cut entry begins
	Index  int   // its index, from 0
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("parse IMA list: entry %d at offset %d is cut short", e.Index, e.Offset)
}

// MalformedError says that an entry cannot be read; nothing after it can.
type MalformedError struct {
	Offset int64 // where the entry begins
	Index  int   // its index, from 0
	Reason string
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("parse IMA list: entry %d at offset %d: %s", e.Index, e.Offset, e.Reason)
}

// FileDigest is a file's digest and the name that the kernel gives its
// algorithm. Verity is set where the digest is of fs-verity rather than of the
// file's content (templates ima-ngv2 and ima-sigv2).
type FileDigest struct {
	Algorithm string     `json:"algorithm"`
	Digest    pcr.Digest `json:"digest"`
	Verity    bool       `json:"verity,omitempty"`
}

// Entry is one measurement. The byte slices of an entry that a Decoder returned
// belong to that decoder and hold until its next call of Next; Clone keeps one.
type Entry struct {
	Index        int
	Offset       int64 // of the entry in the list, in bytes
	PCR          int
	TemplateHash pcr.Digest // as in the list: SHA-1, but in the per-bank files of newer kernels
	Template     string
	Data         []byte // the template data as the kernel hashes them
	Digest       FileDigest
	Path         string
	Signature    []byte     // ima-sig, ima-sigv2, ima-modsig: the signature attribute
	ModSignature []byte     // ima-modsig: the appended PKCS #7 signature
	Buffer       []byte     // ima-buf: keys, command lines, critical data
	Hidden       pcr.Digest // template ward-hidden: SHA-256 of the data that the kernel hashed; Data are not those
	Violation    bool       // the kernel could not vouch for the file: its hash in the list is zero
	BigEndian    bool       // the integers in Data are
}

// Clone returns a copy that shares nothing with a decoder.
func (e Entry) Clone() Entry {
	e.TemplateHash = bytes.Clone(e.TemplateHash)
	e.Data = bytes.Clone(e.Data)
	e.Digest.Algorithm = strings.Clone(e.Digest.Algorithm)
	e.Digest.Digest = bytes.Clone(e.Digest.Digest)
	e.Template = strings.Clone(e.Template)
	e.Path = strings.Clone(e.Path)
	e.Signature = bytes.Clone(e.Signature)
	e.ModSignature = bytes.Clone(e.ModSignature)
	e.Buffer = bytes.Clone(e.Buffer)
	e.Hidden = bytes.Clone(e.Hidden)
	return e
}

// Extension returns what the kernel extended for the entry in a bank: all ones
// for a violation, the list's own hash in that hash's bank, else the hash of the
// template data (kernel 5.8 and later; ima_crypto.c, ima_calc_field_array_hash).
// It is nil when this build cannot compute the algorithm, and for a hidden entry in
// a bank of which it does not hold the hash.
func (e Entry) Extension(a pcr.Algorithm) pcr.Digest {
	switch {
	case e.Violation:
		return pcr.AllOnes(a)
	case a == hashAlgorithm(e.TemplateHash):
		return bytes.Clone(e.TemplateHash)
	case e.Hidden != nil && a == pcr.SHA256:
		return bytes.Clone(e.Hidden)
	case e.Hidden != nil:
		return nil
	}
	return a.Sum(e.Data)
}

// Rehashes tells whether the template data hash to the list's template hash:
// where they do not, path and digest are not what was extended in the bank of
// that hash. A violation has no hash and does not count, nor does a hidden entry.
func (e Entry) Rehashes() bool {
	return e.Violation || e.Hidden != nil || bytes.Equal(hashAlgorithm(e.TemplateHash).Sum(e.Data), e.TemplateHash)
}

// hashAlgorithm is the algorithm of a template hash, told by its length.
func hashAlgorithm(hash pcr.Digest) pcr.Algorithm {
	switch len(hash) {
	case 32:
		return pcr.SHA256
	case 48:
		return pcr.SHA384
	case 64:
		return pcr.SHA512
	}
	return pcr.SHA1
}
