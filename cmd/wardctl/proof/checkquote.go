package proof

import (
	"encoding/binary"

	"ward/internal/trust/evidence"
	"ward/internal/trust/quote"
)

// Sizes of what tpm2-tools writes to disk as it lies in memory (tss2_tpm2_types.h):
// TPML_PCR_SELECTION has places for 16 selections of 8 bytes, TPML_DIGEST for 8
// digests of 64 bytes, each with its length.
const (
	maxSelections   = 16
	selectionSize   = 8
	digestsInAList  = 8
	digestSize      = 64
	selectedByBytes = 3
)

// checkquoteFile writes the registers that a quote claims to be about as
// tpm2_quote does (its serialized format, little endian), for tpm2_checkquote:
// the selection, how many lists of digests follow, and the lists.
func checkquoteFile(e evidence.Evidence, q evidence.Quote) []byte {
	bank, registers, err := quote.Untrusted(quote.Quote(q))
	if err != nil {
		return nil
	}
	le := binary.LittleEndian
	selection := make([]byte, maxSelections*selectionSize)
	le.PutUint16(selection, uint16(bank))
	selection[2] = selectedByBytes
	for _, n := range registers {
		selection[3+n/8] |= 1 << (n % 8)
	}
	b := append(le.AppendUint32(nil, 1), selection...)
	lists := (len(registers) + digestsInAList - 1) / digestsInAList
	b = le.AppendUint32(b, uint32(lists))
	for ; len(registers) > 0; registers = registers[min(digestsInAList, len(registers)):] {
		now := registers[:min(digestsInAList, len(registers))]
		list := le.AppendUint32(nil, uint32(len(now)))
		for _, n := range now {
			digest := make([]byte, digestSize)
			copy(digest, e.PCRs[n])
			list = append(le.AppendUint16(list, uint16(len(e.PCRs[n]))), digest...)
		}
		b = append(b, list...)
		b = append(b, make([]byte, (digestsInAList-len(now))*(2+digestSize))...)
	}
	return b
}
