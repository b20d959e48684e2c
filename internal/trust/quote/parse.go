package quote

import (
	"fmt"

	"ward/internal/format/pcr"
	"ward/internal/format/tpmwire"
)

// Bounds of variable parts, in bytes: a name is an algorithm and a digest, of
// SHA-512 at most; a PC client TPM selects registers with 3 bytes.
const (
	maxName      = 2 + 64
	maxExtra     = 64
	maxDigest    = 64
	selectBytes  = 3
	maxSelection = 1 // one bank a quote
)

// attest is a TPMS_ATTEST of the type quote.
type attest struct {
	extra     []byte
	clock     Clock
	firmware  uint64
	bank      pcr.Algorithm
	registers []int
	digest    []byte
}

func parseAttest(b []byte) (attest, error) {
	r := tpmwire.NewReader(b)
	if magic, tag := r.U32("magic"), r.U16("tag"); r.Good() && (magic != tpmwire.Generated || tag != tpmwire.AttestQuote) {
		return attest{}, fmt.Errorf("%w: magic %08x, tag %04x", ErrMalformed, magic, tag)
	}
	r.Sized(maxName, "signer's name")
	a := attest{extra: r.Sized(maxExtra, "qualifying data")}
	a.clock = Clock{Milliseconds: r.U64("clock"), ResetCount: r.U32("reset count"), RestartCount: r.U32("restart count"), Safe: r.U8("clock's safety") == 1}
	a.firmware = r.U64("firmware version")
	if n := r.U32("selection"); r.Good() && n != maxSelection {
		return attest{}, fmt.Errorf("%w: it selects %d banks, want one", ErrSelection, n)
	}
	a.bank = pcr.Algorithm(r.U16("bank"))
	if n := r.U8("selection's size"); r.Good() && n != selectBytes {
		return attest{}, fmt.Errorf("%w: a selection of %d bytes, want %d", ErrMalformed, n, selectBytes)
	}
	for i, bits := range r.Take(selectBytes, "selection's bits") {
		for bit := range 8 {
			if bits&(1<<bit) != 0 {
				a.registers = append(a.registers, 8*i+bit)
			}
		}
	}
	a.digest = r.Sized(maxDigest, "digest")
	if err := r.End(); err != nil {
		return attest{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return a, nil
}
