package imasig

import (
	"crypto"
	_ "crypto/sha1" // the hashes that signatures are over
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/hex"

	"ward/internal/format/ima"
)

// Types of the attributes security.ima and security.evm (integrity.h, enum
// evm_ima_xattr_type).
const (
	typeFile     = 0x03 // EVM_IMA_XATTR_DIGSIG
	typePortable = 0x05 // EVM_XATTR_PORTABLE_DIGSIG
	typeVerity   = 0x06 // IMA_VERITY_DIGSIG
)

// Versions of a signature (integrity.h).
const (
	versionDigest = 2 // over the file's digest
	versionFileID = 3 // over the digest with its type and algorithm
)

// keyIDSize is how much of a key's id a signature holds.
const keyIDSize = 4

// headerSize is the size of signature_v2_hdr, in bytes:
//
//	1   type of the attribute
//	1   version
//	1   hash algorithm (hash_info.h, enum hash_algo)
//	4   the last bytes of the key's id
//	2   size of the signature, big endian
const headerSize = 1 + 1 + 1 + keyIDSize + 2

// algorithm is one of the kernel's hash algorithms.
type algorithm struct {
	name string
	hash crypto.Hash // 0: not computed here
}

// algorithms are the kernel's by number (include/uapi/linux/hash_info.h).
var algorithms = [...]algorithm{
	{"md4", 0}, {"md5", 0}, {"sha1", crypto.SHA1}, {"rmd160", 0}, {"sha256", crypto.SHA256},
	{"sha384", crypto.SHA384}, {"sha512", crypto.SHA512}, {"sha224", crypto.SHA224},
	{"rmd128", 0}, {"rmd256", 0}, {"rmd320", 0}, {"wp256", 0}, {"wp384", 0}, {"wp512", 0},
	{"tgr128", 0}, {"tgr160", 0}, {"tgr192", 0}, {"sm3", 0}, {"streebog256", 0}, {"streebog512", 0},
	{"sha3-256", 0}, {"sha3-384", 0}, {"sha3-512", 0},
}

// attribute is a signature attribute, read.
type attribute struct {
	kind, version byte
	number        byte // of the algorithm
	algorithm     algorithm
	keyID         []byte
	signature     []byte
}

// parseAttribute reads an attribute; the result says why it cannot be verified,
// State None when it can.
func parseAttribute(b []byte) (attribute, Result) {
	if len(b) <= headerSize {
		return attribute{}, unsupported("the attribute of %d bytes is shorter than a signature's header", len(b))
	}
	a := attribute{kind: b[0], version: b[1], number: b[2], keyID: b[3 : 3+keyIDSize], signature: b[headerSize:]}
	r := Result{KeyID: hex.EncodeToString(a.keyID)}
	if int(a.number) < len(algorithms) {
		a.algorithm = algorithms[a.number]
		r.Algorithm = a.algorithm.name
	}
	wrong := unsupported
	switch {
	case a.version != versionDigest && a.version != versionFileID:
		r.Reason = wrong("its version is %d", a.version).Reason
	case a.algorithm.hash == 0:
		r.Reason = wrong("its hash algorithm is %d %s", a.number, a.algorithm.name).Reason
	case int(binary.BigEndian.Uint16(b[headerSize-2:])) != len(a.signature):
		r.Reason = wrong("its size is %d, and %d bytes are there", binary.BigEndian.Uint16(b[headerSize-2:]), len(a.signature)).Reason
	default:
		return a, r
	}
	r.State = Unsupported
	return a, r
}

// verifyFile verifies the signature attribute of a file.
func verifyFile(e ima.Entry, keys Keys) Result {
	if len(e.Signature) == 0 {
		return Result{}
	}
	a, r := parseAttribute(e.Signature)
	if r.State != None {
		return r
	}
	digest := []byte(e.Digest.Digest)
	switch {
	case a.kind != typeFile && a.kind != typeVerity:
		r.Reason = unsupported("its type is %d", a.kind).Reason
	case a.kind == typeVerity && a.version != versionFileID:
		r.Reason = "it is of fs-verity and of version 2"
	case a.kind == typeFile && e.Digest.Verity:
		r.Reason = "it is over a file's content, and the entry holds a digest of fs-verity"
	case e.Digest.Algorithm != a.algorithm.name:
		r.Reason = unsupported("it is over a digest of %s, and the entry holds one of %.16q", a.algorithm.name, e.Digest.Algorithm).Reason
	case len(digest) != a.algorithm.hash.Size():
		r.Reason = "the entry's digest is not one of its algorithm"
	default:
		if a.version == versionFileID {
			digest = fileID(a, digest)
		}
		return keys.named(a.keyID).try(r, a.algorithm.hash, digest, a.signature)
	}
	r.State = Unsupported
	return r
}

// fileID is what a signature of version 3 is over: the hash of the attribute's
// type, the algorithm's number and the digest (ima_appraise.c, calc_file_id_hash).
func fileID(a attribute, digest []byte) []byte {
	h := a.algorithm.hash.New()
	h.Write([]byte{a.kind, a.number})
	h.Write(digest)
	return h.Sum(nil)
}
