// Package efistore writes and reads the variable store of OVMF, so that a
// virtual device starts its life with the lab's own Secure Boot keys and no
// enrolment boot.
//
// Sources: UEFI PI 1.8, volume 3, 3.2.1.1 (firmware volume header); edk2
// MdeModulePkg/Include/Guid/VariableFormat.h (VARIABLE_STORE_HEADER,
// AUTHENTICATED_VARIABLE_HEADER); UEFI 2.10, 32.4.1 (EFI_SIGNATURE_LIST).
package efistore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// A GUID in the byte order of EFI structures.
type GUID [16]byte

// MustGUID parses the usual text form and panics on a wrong constant.
func MustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// ParseGUID parses the usual text form: the first three fields are stored
// little-endian (UEFI 2.10, appendix A).
func ParseGUID(s string) (GUID, error) {
	var g GUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 {
		return g, fmt.Errorf("parse GUID %q: want 8-4-4-4-12 hex digits", s)
	}
	copy(g[:], b)
	g[0], g[1], g[2], g[3] = b[3], b[2], b[1], b[0]
	g[4], g[5], g[6], g[7] = b[5], b[4], b[7], b[6]
	return g, nil
}

// GUIDs of variables and signatures.
var (
	GlobalVariable   = MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // PK, KEK
	ImageSecurity    = MustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // db, dbx
	CertX509         = MustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	CertSHA256       = MustGUID("c1c41626-504c-4092-aca9-41f936934328")
	authenticatedVar = MustGUID("aaf32c78-947b-439a-a180-2e144ec37792")
)

const (
	headerLengthOffset = 48 // EFI_FIRMWARE_VOLUME_HEADER.HeaderLength
	storeHeaderSize    = 28
	varHeaderSize      = 60
	startID            = 0x55AA
	stateAdded         = 0x3F
	// Non-volatile, boot service, run time, time-based authenticated write.
	secureBootAttributes = 0x27
)

// A Variable is one authenticated variable.
type Variable struct {
	Name   string
	Vendor GUID
	Time   time.Time // of the authenticated write
	Data   []byte
}

// Write puts the variables into a copy of template, whose store must be empty.
func Write(template []byte, vars []Variable) ([]byte, error) {
	out := bytes.Clone(template)
	at, end, err := area(out)
	if err != nil {
		return nil, err
	}
	if at+2 <= end && binary.LittleEndian.Uint16(out[at:]) == startID {
		return nil, errors.New("write variable store: the template holds variables already")
	}
	for _, v := range vars {
		rec := v.encode()
		if at+len(rec) > end {
			return nil, fmt.Errorf("write variable %s: the store is full", v.Name)
		}
		copy(out[at:], rec)
		at += len(rec)
	}
	return out, nil
}

// Read returns the variables of a store that Write or OVMF has written, those
// in use only.
func Read(store []byte) ([]Variable, error) {
	at, end, err := area(store)
	if err != nil {
		return nil, err
	}
	var vars []Variable
	le := binary.LittleEndian
	for at+varHeaderSize <= end && le.Uint16(store[at:]) == startID {
		h := store[at:]
		nameSize, dataSize := int(le.Uint32(h[36:])), int(le.Uint32(h[40:]))
		if nameSize > end-at-varHeaderSize || dataSize > end-at-varHeaderSize-nameSize {
			return nil, fmt.Errorf("read variable store: variable at offset %d exceeds the store", at)
		}
		name := h[varHeaderSize : varHeaderSize+nameSize]
		if h[2] == stateAdded {
			v := Variable{
				Name: decodeName(name),
				Time: decodeTime(h[16:32]),
				Data: bytes.Clone(h[varHeaderSize+nameSize : varHeaderSize+nameSize+dataSize]),
			}
			copy(v.Vendor[:], h[44:60])
			vars = append(vars, v)
		}
		at += (varHeaderSize + nameSize + dataSize + 3) &^ 3
	}
	return vars, nil
}

// area finds the bytes between the store's header and its end.
func area(volume []byte) (start, end int, err error) {
	if len(volume) < headerLengthOffset+2 || string(volume[40:44]) != "_FVH" {
		return 0, 0, errors.New("read variable store: no firmware volume header")
	}
	le := binary.LittleEndian
	at := int(le.Uint16(volume[headerLengthOffset:]))
	if at+storeHeaderSize > len(volume) || !bytes.Equal(volume[at:at+16], authenticatedVar[:]) {
		return 0, 0, errors.New("read variable store: not a store of authenticated variables")
	}
	size := int(le.Uint32(volume[at+16:]))
	if size < storeHeaderSize || size > len(volume)-at {
		return 0, 0, fmt.Errorf("read variable store: size %d exceeds the volume", size)
	}
	return at + storeHeaderSize, at + size, nil
}

// encode is the record, padded to four bytes with the value of erased flash.
func (v Variable) encode() []byte {
	name := encodeName(v.Name)
	le := binary.LittleEndian
	b := le.AppendUint16(nil, startID)
	b = append(b, stateAdded, 0)
	b = le.AppendUint32(b, secureBootAttributes)
	b = le.AppendUint64(b, 0) // monotonic count: not used with time
	b = append(b, encodeTime(v.Time)...)
	b = le.AppendUint32(b, 0) // public key index: not used with time
	b = le.AppendUint32(b, uint32(len(name)))
	b = le.AppendUint32(b, uint32(len(v.Data)))
	b = append(b, v.Vendor[:]...)
	b = append(b, name...)
	b = append(b, v.Data...)
	for len(b)%4 != 0 {
		b = append(b, 0xFF)
	}
	return b
}

func encodeName(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func decodeName(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		if c := binary.LittleEndian.Uint16(b); c != 0 {
			u = append(u, c)
		}
	}
	return string(utf16.Decode(u))
}

// encodeTime is EFI_TIME in UTC (UEFI 2.10, 8.3).
func encodeTime(t time.Time) []byte {
	t = t.UTC()
	b := binary.LittleEndian.AppendUint16(nil, uint16(t.Year()))
	b = append(b, byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()))
	return append(b, make([]byte, 9)...)
}

func decodeTime(b []byte) time.Time {
	return time.Date(int(binary.LittleEndian.Uint16(b)), time.Month(b[2]), int(b[3]),
		int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
}

// SignatureList is an EFI signature list of one type with one owner; all
// entries must have the same length.
func SignatureList(kind, owner GUID, entries ...[]byte) ([]byte, error) {
	if len(entries) == 0 {
		return nil, errors.New("make signature list: no entry")
	}
	size := len(entries[0])
	le := binary.LittleEndian
	b := append([]byte{}, kind[:]...)
	b = le.AppendUint32(b, uint32(28+len(entries)*(16+size)))
	b = le.AppendUint32(b, 0) // no signature header
	b = le.AppendUint32(b, uint32(16+size))
	for _, e := range entries {
		if len(e) != size {
			return nil, errors.New("make signature list: entries differ in length")
		}
		b = append(append(b, owner[:]...), e...)
	}
	return b, nil
}
