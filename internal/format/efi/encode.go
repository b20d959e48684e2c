package efi

import (
	"encoding/binary"
	"unicode/utf16"
)

// Bytes writes a variable as it is measured: what ParseVariable reads (Firmware
// Profile, 10.2.6, UEFI_VARIABLE_DATA).
func (v Variable) Bytes() []byte {
	le := binary.LittleEndian
	units := utf16.Encode([]rune(v.Name))
	b := append([]byte(nil), v.Vendor[:]...)
	b = le.AppendUint64(b, uint64(len(units)))
	b = le.AppendUint64(b, uint64(len(v.Data)))
	for _, u := range units {
		b = le.AppendUint16(b, u)
	}
	return append(b, v.Data...)
}

// Bytes writes an entry with its owner: what ParseSignature reads (UEFI 32.4.1,
// EFI_SIGNATURE_DATA).
func (s Signature) Bytes() []byte { return append(append([]byte(nil), s.Owner[:]...), s.Data...) }
