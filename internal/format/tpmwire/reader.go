// Package tpmwire reads the structures in which a TPM speaks of keys (TPM 2.0
// Library, Part 2): the public area of a P-256 key, the attestation that a key
// lives in a TPM, and the signature below an attestation. Each is read whole,
// within bounds; nothing may stand behind it.
package tpmwire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat: the bytes are not the structure.
var ErrFormat = errors.New("not the TPM structure that belongs here")

// Reader takes big-endian values off the begin of bytes. After the first that is
// not there all are zero, and End says what was wanted. The zero value is at the
// end of nothing.
type Reader struct {
	b   []byte
	bad string
}

// NewReader reads from b, which is not copied.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Good says whether all that was wanted so far was there.
func (r *Reader) Good() bool { return r.bad == "" }

// Take takes n bytes, at most 8 of them when they are not there.
func (r *Reader) Take(n int, what string) []byte {
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

// U8, U16, U32 and U64 take a number. They are no part of their callers: a parser is
// a row of such calls, and the device's program has its size.

//go:noinline
func (r *Reader) U8(what string) uint8 { return r.Take(1, what)[0] }

//go:noinline
func (r *Reader) U16(what string) uint16 { return binary.BigEndian.Uint16(r.Take(2, what)) }

//go:noinline
func (r *Reader) U32(what string) uint32 { return binary.BigEndian.Uint32(r.Take(4, what)) }

//go:noinline
func (r *Reader) U64(what string) uint64 { return binary.BigEndian.Uint64(r.Take(8, what)) }

// Sized takes a TPM2B of at most most bytes.
func (r *Reader) Sized(most int, what string) []byte {
	n := int(r.U16(what))
	if n > most && r.bad == "" {
		r.bad = what
	}
	if r.bad != "" {
		return nil
	}
	return r.Take(n, what)
}

// End says what was not there, or that something stands behind the structure. It
// wraps ErrFormat.
func (r *Reader) End() error {
	switch {
	case r.bad != "":
		return fmt.Errorf("%w: no %s where it belongs", ErrFormat, r.bad)
	case len(r.b) > 0:
		return fmt.Errorf("%w: %d bytes behind it", ErrFormat, len(r.b))
	}
	return nil
}
