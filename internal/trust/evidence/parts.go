package evidence

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

const (
	// PartSize is how many bytes of a document one message carries: with the few
	// bytes around them they stay below the 128 KiB of a message.
	PartSize = 96 << 10
	// MaxDocument bounds a document that travels in parts: event log and user
	// space's log at their longest (1 MiB each), and as much of an IMA list as a
	// device puts into evidence (3 MiB). It bounds what a device can make the fleet
	// hold.
	MaxDocument = 6 << 20
	// PartVersion is the version of the parts that this package writes and reads.
	PartVersion = 1

	// maxPart bounds an encoded part: its bytes and at most 74 around them.
	maxPart = PartSize + 128
	// maxForgotten is how many documents an Assembler remembers that are done or
	// given up, so that late parts of them begin nothing anew.
	maxForgotten = 16
)

// What can be wrong with a part.
var (
	ErrPart   = errors.New("not a part of an evidence document")
	ErrDigest = errors.New("the parts do not give the document that they are of")
)

// Part is one message on the way of a document: a map of integer keys in the one
// form of RFC 8949, section 4.2.1. Every part but the last has PartSize bytes, so
// that its number says where they belong.
type Part struct {
	Version uint     `cbor:"1,keyasint"`
	ID      [16]byte `cbor:"2,keyasint"` // of the document, chosen at random
	Index   uint     `cbor:"3,keyasint"` // from 0
	Count   uint     `cbor:"4,keyasint"`
	Size    uint     `cbor:"5,keyasint"` // of the document, in bytes
	SHA256  [32]byte `cbor:"6,keyasint"` // of the document
	Bytes   []byte   `cbor:"7,keyasint"`
}

// Split writes a document as parts, in their order. A document that is empty or
// longer than MaxDocument is an error.
func Split(id [16]byte, document []byte) ([][]byte, error) {
	if len(document) == 0 || len(document) > MaxDocument {
		return nil, fmt.Errorf("split evidence: %d bytes, want 1 to %d", len(document), MaxDocument)
	}
	p := Part{Version: PartVersion, ID: id, Count: count(len(document)), Size: uint(len(document)), SHA256: sha256.Sum256(document)}
	parts := make([][]byte, 0, p.Count)
	for chunk := range slices.Chunk(document, PartSize) {
		p.Bytes = chunk
		b, err := encMode.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("split evidence: %w", err)
		}
		parts = append(parts, b)
		p.Index++
	}
	return parts, nil
}

// count is how many parts a document of that size has.
func count(size int) uint { return uint((size + PartSize - 1) / PartSize) }

var partMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: maxLevels, MaxMapPairs: 16, MaxArrayElements: 16,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// ParsePart reads a part. Its errors wrap ErrPart. It checks, in this order:
//
//  1. the length of the message;
//  2. well-formed CBOR of the seven fields, each once and no other, and the
//     version;
//  3. that the bytes are those that Split writes: there is one form only;
//  4. the document's size against MaxDocument, and number, count and length of
//     the part against the document's size.
func ParsePart(b []byte) (Part, error) {
	if len(b) > maxPart {
		return Part{}, fmt.Errorf("parse part: %w: %d bytes, at most %d are read", ErrPart, len(b), maxPart)
	}
	var p Part
	if err := partMode.Unmarshal(b, &p); err != nil {
		return Part{}, fmt.Errorf("parse part: %w: %w", ErrPart, err)
	}
	if p.Version != PartVersion {
		return Part{}, fmt.Errorf("parse part: %w: version %d, this one reads %d", ErrPart, p.Version, PartVersion)
	}
	if again, err := encMode.Marshal(p); err != nil || !bytes.Equal(again, b) {
		return Part{}, fmt.Errorf("parse part: %w: it is not encoded in the one form that is accepted (RFC 8949, section 4.2.1)", ErrPart)
	}
	if p.Size == 0 || p.Size > MaxDocument {
		return Part{}, fmt.Errorf("parse part: %w: of a document of %d bytes, want 1 to %d", ErrPart, p.Size, MaxDocument)
	}
	if want := count(int(p.Size)); p.Count != want || p.Index >= want {
		return Part{}, fmt.Errorf("parse part: %w: number %d of %d parts, and a document of %d bytes has %d", ErrPart, p.Index, p.Count, p.Size, want)
	}
	want := min(PartSize, int(p.Size)-int(p.Index)*PartSize)
	if len(p.Bytes) != want {
		return Part{}, fmt.Errorf("parse part: %w: part %d has %d bytes, want %d", ErrPart, p.Index, len(p.Bytes), want)
	}
	return p, nil
}

// Assembler puts one device's documents together from parts that come in any
// order, twice or never. It holds one document at a time, and of that only the
// parts that came: the document that was begun last wins. The zero value is
// ready; it is not for several goroutines.
type Assembler struct {
	first     Part // the first part of the document in hand, without its bytes
	parts     [][]byte
	missing   uint
	held      int
	forgotten [][16]byte // ids that are done or given up, the newest last
}

// Held is how many bytes of a document wait for the rest of it.
func (a *Assembler) Held() int { return a.held }

// Reset gives up the document in hand; parts of it that come later are ignored.
func (a *Assembler) Reset() {
	if len(a.parts) == 0 {
		return
	}
	if len(a.forgotten) == maxForgotten {
		a.forgotten = slices.Delete(a.forgotten, 0, 1)
	}
	a.forgotten = append(a.forgotten, a.first.ID)
	a.first, a.parts, a.missing, a.held = Part{}, nil, 0, 0
}

// Add takes a message. It returns the document when that is complete and has the
// digest that its parts name, and nil while parts are missing. A part that is
// none leaves the document in hand alone; one that contradicts the document's
// other parts, or a digest that is another (ErrDigest), ends it.
func (a *Assembler) Add(message []byte) ([]byte, error) {
	p, err := ParsePart(message)
	if err != nil {
		return nil, err
	}
	if slices.Contains(a.forgotten, p.ID) {
		return nil, nil
	}
	if len(a.parts) == 0 || p.ID != a.first.ID {
		a.Reset()
		a.first, a.parts, a.missing = p, make([][]byte, p.Count), p.Count
		a.first.Bytes = nil
	}
	if p.Size != a.first.Size || p.SHA256 != a.first.SHA256 {
		a.Reset()
		return nil, fmt.Errorf("assemble evidence: %w: part %d is of another document under the same id", ErrPart, p.Index)
	}
	if a.parts[p.Index] != nil {
		return nil, nil
	}
	a.parts[p.Index], a.missing, a.held = p.Bytes, a.missing-1, a.held+len(p.Bytes)
	if a.missing > 0 {
		return nil, nil
	}
	document, want := slices.Concat(a.parts...), a.first.SHA256
	a.Reset()
	if got := sha256.Sum256(document); got != want {
		return nil, fmt.Errorf("assemble evidence: %w: SHA-256 %x, want %x", ErrDigest, got, want)
	}
	return document, nil
}
