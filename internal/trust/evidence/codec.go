package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"ward/internal/format/chain"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/posture"
)

// Version is the version of the document that this package writes and reads.
const Version = 2

// Bounds of what is read, in bytes but for maxLevels.
const (
	// MaxSize bounds a document: the longest IMA list that a device reads (64
	// MiB), the longest logs (1 MiB each) and the rest.
	MaxSize = 72 << 20
	// MaxNonce bounds a nonce; the fleet's have 32 bytes.
	MaxNonce = 64

	maxName   = 64      // tenant, device, boot id
	maxLog    = 1 << 20 // firmware's log, user space's log
	maxList   = 64 << 20
	maxQuote  = 1 << 10 // TPMS_ATTEST takes up to 200, TPMT_SIGNATURE 72
	maxReason = 512     // why a part could not be read
	maxLevels = 4       // document, claims, a claim, its values
)

var (
	// ErrMalformed: the bytes are no evidence document.
	ErrMalformed = errors.New("not an evidence document")
	// ErrVersion: the document is of a version that this package does not read.
	ErrVersion = errors.New("evidence of another version")
)

// document is Evidence as it is written. Keys are integers; what is empty is
// left out; byte strings are definite; keys are sorted (RFC 8949, section 4.2.1).
type document struct {
	Version        uint             `cbor:"1,keyasint"`
	Tenant         string           `cbor:"2,keyasint,omitempty"`
	Device         string           `cbor:"3,keyasint,omitempty"`
	Boot           string           `cbor:"4,keyasint,omitempty"`
	Time           int64            `cbor:"5,keyasint,omitempty"` // milliseconds since 1970
	Nonce          []byte           `cbor:"6,keyasint,omitempty"`
	Record         *record          `cbor:"7,keyasint,omitempty"`
	Release        []byte           `cbor:"8,keyasint,omitempty"`
	SBOM           []byte           `cbor:"9,keyasint,omitempty"`
	Bank           uint16           `cbor:"10,keyasint,omitempty"`
	PCRs           map[uint8][]byte `cbor:"11,keyasint,omitempty"`
	BootQuote      *signed          `cbor:"12,keyasint,omitempty"`
	ListQuote      *signed          `cbor:"13,keyasint,omitempty"`
	Errors         map[uint8]string `cbor:"14,keyasint,omitempty"` // by part
	EventLog       []byte           `cbor:"15,keyasint,omitempty"`
	EventLogDigest []byte           `cbor:"16,keyasint,omitempty"`
	UserLog        []byte           `cbor:"17,keyasint,omitempty"`
	From           *checkpoint      `cbor:"18,keyasint,omitempty"`
	IMA            []byte           `cbor:"19,keyasint,omitempty"`
	IMATruncated   bool             `cbor:"20,keyasint,omitempty"`
	claims
}

type record struct {
	_        struct{} `cbor:",toarray"`
	Epoch    uint64
	Sequence uint64
	Head     []byte
}

type signed struct {
	_         struct{} `cbor:",toarray"`
	Attest    []byte
	Signature []byte
}

type checkpoint struct {
	_       struct{} `cbor:",toarray"`
	Entries uint32
	PCR     []byte
}

// parts in the map of errors, in the order of their numbers from 1.
func (e *Evidence) parts() []*string {
	return []*string{&e.PCRError, &e.QuoteError, &e.EventLogError, &e.UserLogError, &e.IMAError}
}

var encMode = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

var decMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, UTF8: cbor.UTF8RejectInvalid, MaxNestedLevels: maxLevels,
		MaxMapPairs: 32, MaxArrayElements: posture.MaxValues,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// Encode writes the document: the same evidence always gives the same bytes.
// Evidence that Parse would refuse is an error.
func Encode(e Evidence) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	d := document{
		Version: Version, Tenant: e.Tenant, Device: e.Device, Boot: e.Boot, Nonce: e.Nonce, Release: e.Release, SBOM: e.SBOM,
		Bank: uint16(e.Bank), EventLog: e.EventLog, EventLogDigest: e.EventLogDigest, UserLog: e.UserLog,
		IMA: e.IMA, IMATruncated: e.IMATruncated, claims: e.claims(),
	}
	if !e.Time.IsZero() {
		d.Time = e.Time.UnixMilli()
	}
	if e.Record != (Record{}) {
		d.Record = &record{Epoch: e.Record.Epoch, Sequence: e.Record.Sequence, Head: e.Record.Head[:]}
	}
	if len(e.PCRs) > 0 {
		d.PCRs = make(map[uint8][]byte, len(e.PCRs))
		for n, v := range e.PCRs {
			d.PCRs[uint8(n)] = v
		}
	}
	d.BootQuote, d.ListQuote = signedOf(e.BootQuote), signedOf(e.ListQuote)
	for n, reason := range e.parts() {
		if *reason != "" {
			if d.Errors == nil {
				d.Errors = make(map[uint8]string)
			}
			d.Errors[uint8(n+1)] = *reason
		}
	}
	if e.From.Entries != 0 {
		d.From = &checkpoint{Entries: uint32(e.From.Entries), PCR: e.From.PCR}
	}
	b, err := encMode.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("encode evidence: %d bytes, at most %d", len(b), MaxSize)
	}
	return b, nil
}

func signedOf(q Quote) *signed {
	if q.Empty() {
		return nil
	}
	return &signed{Attest: q.Attest, Signature: q.Signature}
}

// Parse reads a document that nobody has vouched for. It checks, in this order:
//
//  1. the size;
//  2. well-formed CBOR of the fields that are known, each once, without tags and
//     indefinite lengths;
//  3. the version, else ErrVersion;
//  4. that the bytes are those that Encode writes: there is one form only;
//  5. lengths and texts of every field.
func Parse(b []byte) (Evidence, error) {
	if len(b) > MaxSize {
		return Evidence{}, fmt.Errorf("parse evidence: %w: %d bytes, at most %d are read", ErrMalformed, len(b), MaxSize)
	}
	var version struct {
		Version uint `cbor:"1,keyasint"`
	}
	if err := lenient.Unmarshal(b, &version); err != nil {
		return Evidence{}, fmt.Errorf("parse evidence: %w: %w", ErrMalformed, err)
	}
	if version.Version != Version {
		return Evidence{}, fmt.Errorf("parse evidence: %w: version %d, this one reads %d", ErrVersion, version.Version, Version)
	}
	var d document
	if err := decMode.Unmarshal(b, &d); err != nil {
		return Evidence{}, fmt.Errorf("parse evidence: %w: %w", ErrMalformed, err)
	}
	e, err := d.evidence()
	if err != nil {
		return Evidence{}, fmt.Errorf("parse evidence: %w: %w", ErrMalformed, err)
	}
	again, err := Encode(e)
	if err != nil {
		return Evidence{}, fmt.Errorf("parse evidence: %w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, b) {
		return Evidence{}, fmt.Errorf("parse evidence: %w: it is not encoded in the one form that is accepted (RFC 8949, section 4.2.1)", ErrMalformed)
	}
	return e, nil
}

// lenient reads the version of documents whose other fields may not be known.
var lenient = func() cbor.DecMode {
	m, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: maxLevels, MaxMapPairs: 256, MaxArrayElements: posture.MaxValues}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func (d *document) evidence() (Evidence, error) {
	e := Evidence{
		Tenant: d.Tenant, Device: d.Device, Boot: d.Boot, Nonce: d.Nonce, Release: d.Release, SBOM: d.SBOM, Bank: pcr.Algorithm(d.Bank),
		EventLog: d.EventLog, EventLogDigest: d.EventLogDigest, UserLog: d.UserLog, IMA: d.IMA, IMATruncated: d.IMATruncated,
	}
	if d.Time != 0 {
		e.Time = time.UnixMilli(d.Time).UTC()
	}
	if r := d.Record; r != nil {
		if len(r.Head) != chain.Size {
			return Evidence{}, fmt.Errorf("chain head of %d bytes, want %d", len(r.Head), chain.Size)
		}
		e.Record = Record{Epoch: r.Epoch, Sequence: r.Sequence, Head: chain.Hash(r.Head)}
	}
	if len(d.PCRs) > 0 {
		e.PCRs = make(pcr.Values, len(d.PCRs))
		for n, v := range d.PCRs {
			e.PCRs[int(n)] = v
		}
	}
	if q := d.BootQuote; q != nil {
		e.BootQuote = Quote{q.Attest, q.Signature}
	}
	if q := d.ListQuote; q != nil {
		e.ListQuote = Quote{q.Attest, q.Signature}
	}
	parts := e.parts()
	for n, reason := range d.Errors {
		if n == 0 || int(n) > len(parts) {
			return Evidence{}, fmt.Errorf("an error of part %d, which does not exist", n)
		}
		*parts[n-1] = reason
	}
	if c := d.From; c != nil {
		e.From = ima.Checkpoint{Entries: int(c.Entries), PCR: c.PCR}
	}
	e.setClaims(d.claims)
	return e, nil
}

// check is step 5 of Parse.
func (e *Evidence) check() error {
	for _, f := range []struct{ name, text string }{{"tenant", e.Tenant}, {"device", e.Device}, {"boot id", e.Boot}} {
		if len(f.text) > maxName || !printable(f.text) {
			return fmt.Errorf("%s of %d bytes: want at most %d, printable", f.name, len(f.text), maxName)
		}
	}
	for _, f := range []struct {
		name string
		size int
		most int
	}{
		{"nonce", len(e.Nonce), MaxNonce},
		{"boot quote", len(e.BootQuote.Attest) + len(e.BootQuote.Signature), maxQuote},
		{"list quote", len(e.ListQuote.Attest) + len(e.ListQuote.Signature), maxQuote},
		{"event log", len(e.EventLog), maxLog}, {"user log", len(e.UserLog), maxLog}, {"IMA list", len(e.IMA), maxList},
	} {
		if f.size > f.most {
			return fmt.Errorf("%s of %d bytes, at most %d", f.name, f.size, f.most)
		}
	}
	for _, f := range []struct {
		name   string
		digest []byte
	}{{"release", e.Release}, {"SBOM", e.SBOM}, {"event log", e.EventLogDigest}} {
		if len(f.digest) != 0 && len(f.digest) != pcr.SHA256.Size() {
			return fmt.Errorf("digest of the %s of %d bytes, want %d", f.name, len(f.digest), pcr.SHA256.Size())
		}
	}
	if len(e.EventLog) > 0 && len(e.EventLogDigest) > 0 {
		return errors.New("the event log and its digest: want one of them")
	}
	if len(e.PCRs) > 0 && e.Bank.Size() == 0 {
		return fmt.Errorf("registers of bank %s, which is not known", e.Bank)
	}
	for n, v := range e.PCRs {
		if n < 0 || n >= pcr.Count || len(v) != e.Bank.Size() {
			return fmt.Errorf("PCR %d of %d bytes: want 0 to %d, of %d bytes", n, len(v), pcr.Count-1, e.Bank.Size())
		}
	}
	for _, reason := range e.parts() {
		if len(*reason) > maxReason || !printable(*reason) {
			return fmt.Errorf("a reason of %d bytes: want at most %d, printable", len(*reason), maxReason)
		}
	}
	if err := e.checkClaims(); err != nil {
		return err
	}
	return e.checkFrom()
}

func (e *Evidence) checkFrom() error {
	switch {
	case e.From.Entries < 0 || int64(e.From.Entries) > 1<<31:
		return fmt.Errorf("the list begins after %d entries", e.From.Entries)
	case e.From.Entries == 0 && len(e.From.PCR) != 0:
		return errors.New("the list begins at its first entry and names a PCR 10 before it")
	case e.From.Entries > 0 && len(e.From.PCR) != e.Bank.Size():
		return fmt.Errorf("the list begins after a PCR 10 of %d bytes, want %d", len(e.From.PCR), e.Bank.Size())
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
