package checkpoint

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/binary"
	"errors"
	"fmt"

	"ward/internal/format/pcr"
	"ward/internal/format/tpmwire"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
	"ward/internal/trust/quote"
)

// What can be wrong with a checkpoint.
var (
	ErrSignature = errors.New("the checkpoint is not signed by this attestation key")
	ErrRecord    = errors.New("the checkpoint certifies another place than the one that it names")
	ErrIndex     = errors.New("the checkpoint certifies something else than the journal's counter")
	ErrValue     = errors.New("the checkpoint certifies another value than the one that it names")
)

// Verified is a checkpoint that a TPM vouches for. Its zero value vouches for
// nothing.
type Verified struct {
	counter  Counter
	value    uint64
	place    Place
	evidence pcr.Digest
	clock    quote.Clock
}

// Counter is the counter; empty for the zero value.
func (v Verified) Counter() Counter { return v.counter }

// Value is the counter's value.
func (v Verified) Value() uint64 { return v.value }

// Place is the record up to which the checkpoint anchors the chain.
func (v Verified) Place() Place { return v.place }

// Evidence is the pcrDigest of the boot registers; nil where it names none.
func (v Verified) Evidence() pcr.Digest { return bytes.Clone(v.evidence) }

// Clock is the TPM's clock when it certified.
func (v Verified) Clock() quote.Clock { return v.clock }

// Verify checks the report of a checkpoint event of a device's epoch. It checks, in
// this order:
//
//  1. the signature is ECDSA on P-256 with SHA-256, by the attestation key, over
//     exactly these bytes;
//  2. the bytes are one attestation that a TPM made itself, of the type NV certify,
//     with nothing behind it;
//  3. its qualifying data is that of the named source, epoch, sequence, head and
//     evidence;
//  4. the index is the journal's counter, by the Name of its public area as Ward
//     defines it (handle, attributes, no policy, written): an index that somebody
//     else defined has another one;
//  5. the contents are all 8 bytes of the counter, and give the named value.
//
// Whether the named record is in the chain is for whoever holds the chain to say.
func Verify(r Report, source event.Source, epoch uint64, ak *ecdsa.PublicKey) (Verified, error) {
	v, err := verify(r, source, epoch, ak)
	if err != nil {
		return Verified{}, fmt.Errorf("verify checkpoint: %w", err)
	}
	return v, nil
}

func verify(r Report, source event.Source, epoch uint64, ak *ecdsa.PublicKey) (Verified, error) {
	if err := r.check(); err != nil {
		return Verified{}, err
	}
	s, err := tpmwire.ParseSignature(r.Signature)
	switch {
	case errors.Is(err, tpmwire.ErrAlgorithm):
		return Verified{}, fmt.Errorf("%w: %w", ErrSignature, err)
	case err != nil:
		return Verified{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	case !s.Verify(ak, r.Attest):
		return Verified{}, ErrSignature
	}
	a, err := parseAttest(r.Attest)
	if err != nil {
		return Verified{}, err
	}
	place := Place{Epoch: epoch, Sequence: r.Sequence, Head: r.Head}
	if want := Qualifying(source, place, r.Evidence); !bytes.Equal(a.extra, want[:]) {
		return Verified{}, fmt.Errorf("%w: record %d of epoch %d of %s", ErrRecord, r.Sequence, epoch, source)
	}
	index, _ := r.Counter.Index()
	if !bytes.Equal(a.index, index.Name(true)) {
		return Verified{}, fmt.Errorf("%w: an index of the name %x", ErrIndex, a.index)
	}
	if a.offset != 0 || len(a.contents) != policy.CounterSize {
		return Verified{}, fmt.Errorf("%w: %d bytes from byte %d on", ErrIndex, len(a.contents), a.offset)
	}
	if value := binary.BigEndian.Uint64(a.contents); value != r.Value {
		return Verified{}, fmt.Errorf("%w: %d, named is %d", ErrValue, value, r.Value)
	}
	return Verified{counter: r.Counter, value: r.Value, place: place, evidence: bytes.Clone(r.Evidence), clock: a.clock}, nil
}

// Bounds of a statement's variable parts, in bytes: a name is an algorithm and a
// digest, of SHA-512 at most; contents are a counter's, and somewhat more so that
// another index is told by its name.
const (
	maxName     = 2 + 64
	maxExtra    = 64
	maxContents = 64
)

// attest is a TPMS_ATTEST of the type NV certify.
type attest struct {
	extra    []byte
	clock    quote.Clock
	index    []byte // Name
	offset   uint16
	contents []byte
}

// UntrustedValue reads what a TPM's statement claims the counter's value to be,
// before anything is verified: a report is made with it.
func UntrustedValue(statement []byte) (uint64, error) {
	a, err := parseAttest(statement)
	if err == nil && len(a.contents) != policy.CounterSize {
		err = ErrIndex
	}
	if err != nil {
		return 0, fmt.Errorf("read counter's certificate: %w", err)
	}
	return binary.BigEndian.Uint64(a.contents), nil
}

func parseAttest(b []byte) (attest, error) {
	r := tpmwire.NewReader(b)
	if magic, tag := r.U32("magic"), r.U16("tag"); r.Good() && (magic != tpmwire.Generated || tag != tpmwire.AttestNV) {
		return attest{}, fmt.Errorf("%w: magic %08x, tag %04x", ErrMalformed, magic, tag)
	}
	r.Sized(maxName, "signer's name")
	a := attest{extra: r.Sized(maxExtra, "qualifying data")}
	a.clock = quote.Clock{Milliseconds: r.U64("clock"), ResetCount: r.U32("reset count"), RestartCount: r.U32("restart count"), Safe: r.U8("clock's safety") == 1}
	r.U64("firmware version")
	a.index = r.Sized(maxName, "index's name")
	a.offset = r.U16("offset")
	a.contents = r.Sized(maxContents, "contents")
	if err := r.End(); err != nil {
		return attest{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return a, nil
}
