// Package luks2 reads the header of an encrypted partition: the two copies of
// the binary header, their checksums, and the JSON area behind each (LUKS2
// On-Disk Format Specification 1.1, sections 2 and 3). It opens nothing: it says
// what the header claims. No key vouches for a header, so whoever can write to
// the disk can write another one; package trust/volume says which is refused.
package luks2

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Sizes of the format (section 2.1).
const (
	binarySize = 4096     // of the binary header
	minSize    = 16 << 10 // of one copy, binary header and JSON area
	// MaxSize bounds one copy: the largest that the specification allows.
	MaxSize = 4 << 20
)

var (
	// ErrNotLUKS: neither copy of a header begins as one does.
	ErrNotLUKS = errors.New("not a LUKS partition")
	// ErrVersion: a LUKS header of another version.
	ErrVersion = errors.New("not LUKS version 2")
	// ErrHeader: a header is there and cannot be used: its checksum is wrong, or it
	// breaks a rule of the specification.
	ErrHeader = errors.New("the LUKS header is damaged")
)

// Header is what the newest copy with a good checksum says.
type Header struct {
	UUID     string
	Label    string
	Sequence uint64 // grows with every change (seqid)
	Second   bool   // the first copy could not be used
	Area     Area
}

// magics begin the first and the second copy.
var magics = [2]string{"LUKS\xba\xbe", "SKUL\xba\xbe"}

// Parse reads the header at the begin of a partition. It checks, in this order:
//
//  1. the first copy, at 0; the second, where the first one says that it lies,
//     else at each place where the specification lets it lie;
//  2. of each copy: magic, version, size, its own offset, checksum (SHA-256 or
//     SHA-512 over binary header and JSON area);
//  3. of the copies with a good checksum, that with the higher sequence number;
//     of equal ones the first;
//  4. its JSON (ParseArea).
//
// Errors wrap ErrNotLUKS, ErrVersion, ErrHeader, or are the reader's. At most
// MaxSize bytes a copy are read.
func Parse(partition io.ReaderAt) (Header, error) {
	first, firstErr := readCopy(partition, 0, magics[0])
	if errors.Is(firstErr, ErrVersion) {
		return Header{}, fmt.Errorf("read LUKS header: %w", firstErr)
	}
	offsets := []int64{first.size}
	if firstErr != nil {
		offsets = nil
		for size := int64(minSize); size <= MaxSize; size *= 2 {
			offsets = append(offsets, size)
		}
	}
	var second *header
	var secondErr error
	for _, offset := range offsets {
		c, err := readCopy(partition, offset, magics[1])
		if err == nil {
			second, secondErr = &c, nil
			break
		}
		if secondErr == nil || errors.Is(secondErr, ErrNotLUKS) {
			secondErr = err
		}
	}
	best := &first
	switch {
	case firstErr != nil && second == nil:
		err := firstErr
		if errors.Is(firstErr, ErrNotLUKS) && !errors.Is(secondErr, ErrNotLUKS) && secondErr != nil {
			err = secondErr
		}
		return Header{}, fmt.Errorf("read LUKS header: %w", err)
	case firstErr != nil, second != nil && second.sequence > first.sequence:
		best = second
	}
	area, err := ParseArea(best.json)
	if err != nil {
		return Header{}, fmt.Errorf("read LUKS header: %w", err)
	}
	return Header{UUID: best.uuid, Label: best.label, Sequence: best.sequence, Second: best == second, Area: area}, nil
}

// header is one copy whose checksum is good.
type header struct {
	size        int64
	sequence    uint64
	label, uuid string
	json        []byte
}

// readCopy reads one copy of the header.
func readCopy(partition io.ReaderAt, offset int64, magic string) (header, error) {
	b := make([]byte, binarySize)
	if err := readAt(partition, b, offset); err != nil {
		return header{}, err
	}
	if string(b[:6]) != magic {
		return header{}, ErrNotLUKS
	}
	if v := binary.BigEndian.Uint16(b[6:]); v != 2 {
		return header{}, fmt.Errorf("%w: version %d", ErrVersion, v)
	}
	size, own := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[256:])
	if size < minSize || size > MaxSize || size&(size-1) != 0 {
		return header{}, fmt.Errorf("%w: a size of %d bytes", ErrHeader, size)
	}
	if own != uint64(offset) || offset != 0 && own != size {
		return header{}, fmt.Errorf("%w: it lies at %d and says %d", ErrHeader, offset, own)
	}
	sum, err := checksum(text(b[72:104]))
	if err != nil {
		return header{}, err
	}
	area := make([]byte, size-binarySize)
	if err := readAt(partition, area, offset+binarySize); err != nil {
		return header{}, err
	}
	stated := bytes.Clone(b[448 : 448+sum.Size()])
	clear(b[448:512])
	sum.Write(b)
	sum.Write(area)
	if !bytes.Equal(sum.Sum(nil), stated) {
		return header{}, fmt.Errorf("%w: its checksum is wrong", ErrHeader)
	}
	return header{
		size: int64(size), sequence: binary.BigEndian.Uint64(b[16:]),
		label: text(b[24:72]), uuid: text(b[168:208]), json: area,
	}, nil
}

// readAt fills b; a partition that ends before is no LUKS partition.
func readAt(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends at %d bytes", ErrNotLUKS, offset+int64(n))
	}
	return fmt.Errorf("read partition: %w", err)
}

// checksum is the hash that the header names. Others than those that cryptsetup
// writes are refused.
func checksum(name string) (hash.Hash, error) {
	switch name {
	case "sha256":
		return sha256.New(), nil
	case "sha512":
		return sha512.New(), nil
	}
	return nil, fmt.Errorf("%w: checksum algorithm %q", ErrHeader, name)
}

// text is a string that ends with a zero byte or its field.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
