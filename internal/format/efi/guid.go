// Package efi reads the structures of UEFI firmware that event logs carry:
// variables, signature lists, load options, device paths, partition tables. It
// follows the UEFI Specification 2.10 (3.1.3 load options, 5.3 GPT, 10 device
// paths, 32.4 signature lists) and, for the forms in which they are measured,
// the TCG PC Client Platform Firmware Profile 1.06 (10.2).
package efi

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// errShort is what all parsers say of a structure that ends too early.
var errShort = errors.New("it ends inside a field")

// GUID is an EFI_GUID in its byte order: the first three fields little endian.
type GUID [16]byte

// String returns the usual text, "8be4df61-93ca-11d2-aa0d-00e098032b8c".
func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[0:]),
		binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// Name returns a short name for a GUID that this package knows, else its text.
func (g GUID) Name() string {
	if n, ok := names[g]; ok {
		return n
	}
	return g.String()
}

// mustGUID reads a GUID's text; it serves this package's tables.
func mustGUID(text string) GUID {
	var g GUID
	b, err := hex.DecodeString(text[0:8] + text[9:13] + text[14:18] + text[19:23] + text[24:])
	if err != nil || len(b) != len(g) {
		panic("efi: bad GUID " + text)
	}
	binary.LittleEndian.PutUint32(g[0:], binary.BigEndian.Uint32(b))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(b[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(b[6:]))
	copy(g[8:], b[8:])
	return g
}

// GUIDs that decide how bytes are read.
var (
	GlobalVariable = mustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // EFI_GLOBAL_VARIABLE
	ImageSecurity  = mustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // EFI_IMAGE_SECURITY_DATABASE_GUID
	CertX509       = mustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072") // EFI_CERT_X509_GUID
	CertSHA256     = mustGUID("c1c41626-504c-4092-aca9-41f936934328") // EFI_CERT_SHA256_GUID
	CertSHA1       = mustGUID("826ca512-cf10-4ac9-b187-be01496631bd") // EFI_CERT_SHA1_GUID
	CertSHA384     = mustGUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01") // EFI_CERT_SHA384_GUID
	CertSHA512     = mustGUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a") // EFI_CERT_SHA512_GUID
	CertX509SHA256 = mustGUID("3bd2a492-96c0-4079-b420-fcf98ef103ed") // EFI_CERT_X509_SHA256_GUID
	CertX509SHA384 = mustGUID("7076876e-80c2-4ee6-aad2-28b349a6865b") // EFI_CERT_X509_SHA384_GUID
	CertX509SHA512 = mustGUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d") // EFI_CERT_X509_SHA512_GUID
	Shim           = mustGUID("605dab50-e046-4300-abb6-3dd810dd8b23") // SHIM_LOCK_GUID, of shim's variables
)

var names = map[GUID]string{
	GlobalVariable: "global",
	ImageSecurity:  "image-security",
	CertX509:       "x509",
	CertSHA256:     "sha256",
	CertSHA1:       "sha1",
	CertSHA384:     "sha384",
	CertSHA512:     "sha512",
	CertX509SHA256: "x509-sha256",
	CertX509SHA384: "x509-sha384",
	CertX509SHA512: "x509-sha512",
	Shim:           "shim",
	mustGUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6"): "rsa2048",
	mustGUID("77fa9abd-0359-4d32-bd60-28f4e78f784b"): "microsoft",
	mustGUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"): "systemd-boot",
	mustGUID("eb9d2d30-2d88-11d3-9a16-0090273fc14d"): "ACPI 1.0",
	mustGUID("8868e871-e4f1-11d3-bc22-0080c73c8881"): "ACPI 2.0",
	mustGUID("eb9d2d31-2d88-11d3-9a16-0090273fc14d"): "SMBIOS",
	mustGUID("f2fd1544-9794-4a2c-992e-e5bbcf20e394"): "SMBIOS 3",
	mustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"): "EFI system partition",
	mustGUID("0fc63daf-8483-4772-8e79-3d69d8477de4"): "Linux file system",
}

// reader takes little-endian fields from bytes; failed turns true for good when
// they run out.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.b)) {
		r.failed = true
		return nil
	}
	field := r.b[:n:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) u8() uint8 {
	if f := r.take(1); f != nil {
		return f[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if f := r.take(2); f != nil {
		return binary.LittleEndian.Uint16(f)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if f := r.take(4); f != nil {
		return binary.LittleEndian.Uint32(f)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if f := r.take(8); f != nil {
		return binary.LittleEndian.Uint64(f)
	}
	return 0
}

func (r *reader) guid() GUID {
	var g GUID
	copy(g[:], r.take(16))
	return g
}

// utf16z takes UTF-16 up to and with its NUL.
func (r *reader) utf16z() string {
	var units []uint16
	for {
		u := r.u16()
		if r.failed || u == 0 {
			return string(utf16.Decode(units))
		}
		units = append(units, u)
	}
}

// UTF16 returns little-endian UTF-16 as text, up to the first NUL.
func UTF16(b []byte) string {
	head, _, _ := strings.Cut(wholeUTF16(b), "\x00")
	return head
}

// wholeUTF16 returns little-endian UTF-16 as text, NULs included.
func wholeUTF16(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}
