package quote

import (
	"encoding/binary"
	"fmt"

	"ward/internal/format/pcr"
)

// Constants of TPM 2.0 Library, Part 2: TPM_GENERATED (section 6.2), the tag
// TPM_ST_ATTEST_QUOTE (6.9), TPM_ALG_ECDSA (6.3).
const (
	generated   = 0xff544347
	attestQuote = 0x8018
	algECDSA    = 0x0018
)

// Bounds of variable parts, in bytes: a name is an algorithm and a digest, of
// SHA-512 at most; a PC client TPM selects registers with 3 bytes.
const (
	maxName      = 2 + 64
	maxExtra     = 64
	maxDigest    = 64
	maxScalar    = 32
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

// reader takes big-endian values off the begin of bytes. After the first that
// is not there all are zero, and bad says what was wanted.
type reader struct {
	b   []byte
	bad string
}

func (r *reader) take(n int, what string) []byte {
	if r.bad != "" || len(r.b) < n {
		if r.bad == "" {
			r.bad = what
		}
		return make([]byte, min(n, 8))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8(what string) uint8   { return r.take(1, what)[0] }
func (r *reader) u16(what string) uint16 { return binary.BigEndian.Uint16(r.take(2, what)) }
func (r *reader) u32(what string) uint32 { return binary.BigEndian.Uint32(r.take(4, what)) }
func (r *reader) u64(what string) uint64 { return binary.BigEndian.Uint64(r.take(8, what)) }

// sized takes a TPM2B of at most most bytes.
func (r *reader) sized(most int, what string) []byte {
	n := int(r.u16(what))
	if n > most && r.bad == "" {
		r.bad = what
	}
	if r.bad != "" {
		return nil
	}
	return r.take(n, what)
}

func (r *reader) end() error {
	switch {
	case r.bad != "":
		return fmt.Errorf("%w: no %s where it belongs", ErrMalformed, r.bad)
	case len(r.b) > 0:
		return fmt.Errorf("%w: %d bytes behind it", ErrMalformed, len(r.b))
	}
	return nil
}

func parseAttest(b []byte) (attest, error) {
	r := &reader{b: b}
	if magic, tag := r.u32("magic"), r.u16("tag"); r.bad == "" && (magic != generated || tag != attestQuote) {
		return attest{}, fmt.Errorf("%w: magic %08x, tag %04x", ErrMalformed, magic, tag)
	}
	r.sized(maxName, "signer's name")
	a := attest{extra: r.sized(maxExtra, "qualifying data")}
	a.clock = Clock{Milliseconds: r.u64("clock"), ResetCount: r.u32("reset count"), RestartCount: r.u32("restart count"), Safe: r.u8("clock's safety") == 1}
	a.firmware = r.u64("firmware version")
	if n := r.u32("selection"); r.bad == "" && n != maxSelection {
		return attest{}, fmt.Errorf("%w: it selects %d banks, want one", ErrSelection, n)
	}
	a.bank = pcr.Algorithm(r.u16("bank"))
	if n := r.u8("selection's size"); r.bad == "" && n != selectBytes {
		return attest{}, fmt.Errorf("%w: a selection of %d bytes, want %d", ErrMalformed, n, selectBytes)
	}
	for i, bits := range r.take(selectBytes, "selection's bits") {
		for bit := range 8 {
			if bits&(1<<bit) != 0 {
				a.registers = append(a.registers, 8*i+bit)
			}
		}
	}
	a.digest = r.sized(maxDigest, "digest")
	return a, r.end()
}

// parseSignature reads a TPMT_SIGNATURE of ECDSA with SHA-256 (Part 2, section
// 11.3.4).
func parseSignature(b []byte) (r, s []byte, err error) {
	in := &reader{b: b}
	alg, hash := in.u16("algorithm"), in.u16("hash")
	if in.bad == "" && (alg != algECDSA || pcr.Algorithm(hash) != pcr.SHA256) {
		return nil, nil, fmt.Errorf("%w: algorithm %04x with hash %04x, want ECDSA with SHA-256", ErrSignature, alg, hash)
	}
	r, s = in.sized(maxScalar, "r"), in.sized(maxScalar, "s")
	return r, s, in.end()
}
