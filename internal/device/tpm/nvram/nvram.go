// Package nvram finds, reads and steps what lies in the TPM's NV memory (TPM 2.0
// Library Specification, Part 3, section 31). An index is known by the Name that
// it must have; one with other attributes or another policy is not it.
package nvram

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
	"ward/internal/trust/policy"
)

const (
	// Chunk is read and written at once; every TPM's NV buffer takes at least
	// 512 bytes.
	Chunk = 512
	// maxSize bounds what is read of an NV index; EK certificates take 0.8 to 2
	// KiB.
	maxSize = 8 << 10
	// maxSteps bounds how far a counter is moved in one operation: each step is
	// a write to the TPM's NV memory, which slow TPMs do in 20 ms and all do a
	// limited number of times.
	maxSteps = 1000
)

var (
	// ErrNoIndex: there is no such NV index.
	ErrNoIndex = errors.New("no such NV index in the TPM")
	// ErrNeverWritten: the NV index was defined and never written.
	ErrNeverWritten = errors.New("the NV index was never written")
	// ErrOccupied: another object or index than Ward's lies at the handle.
	ErrOccupied = errors.New("the TPM handle holds something else than Ward's")
	// ErrCounterAhead: the counter is above what was expected. It can never go
	// back.
	ErrCounterAhead = errors.New("the TPM's counter is above what is expected")
)

// Index is an index that is there, by the Name that it must have.
type Index struct {
	Named   tpm2.NamedHandle
	Written bool
}

// With names the index for a command that a session authorises.
func (n Index) With(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: n.Named.Handle, Name: n.Named.Name, Auth: session}
}

// Find finds an index. The Name is computed and not believed: an index with
// other attributes or another policy gives ErrOccupied.
func Find(c *link.Channel, index policy.Index) (Index, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index.Handle)}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return Index{}, fmt.Errorf("%w: %w", ErrNoIndex, err)
	}
	if err != nil {
		return Index{}, err
	}
	for _, written := range []bool{false, true} {
		if name := index.Name(written); bytes.Equal(name, rsp.NVName.Buffer) {
			return Index{Named: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index.Handle), Name: tpm2.TPM2BName{Buffer: name}}, Written: written}, nil
		}
	}
	return Index{}, fmt.Errorf("%w: NV index 0x%08x", ErrOccupied, index.Handle)
}

// Read reads size bytes.
func (n Index) Read(c *link.Channel, session tpm2.Session, size int) ([]byte, error) {
	var data []byte
	for len(data) < size {
		want := min(Chunk, size-len(data))
		part, err := tpm2.NVRead{AuthHandle: n.With(session), NVIndex: n.Named, Size: uint16(want), Offset: uint16(len(data))}.Execute(c)
		if errors.Is(err, tpm2.TPMRCNVUninitialized) {
			return nil, fmt.Errorf("%w: %w", ErrNeverWritten, err)
		}
		if err != nil {
			return nil, err
		}
		if len(part.Data.Buffer) != want {
			return nil, fmt.Errorf("%w: %d bytes, want %d", link.ErrResponse, len(part.Data.Buffer), want)
		}
		data = append(data, part.Data.Buffer...)
	}
	return data, nil
}

// Optional reads a whole NV index of the maker's with its own, empty
// authorisation; nil when there is none. What is read is public and signed.
func Optional(c *link.Channel, index uint32) ([]byte, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", link.ErrResponse, err)
	}
	if public.DataSize > maxSize {
		return nil, fmt.Errorf("%d bytes, at most %d are read", public.DataSize, maxSize)
	}
	n := Index{Named: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: rsp.NVName}}
	return n.Read(c, tpm2.PasswordAuth(nil), int(public.DataSize))
}

// Raise steps until the counter has a value.
func (n Index) Raise(c *link.Channel, session tpm2.Session, to uint64, step func() error) error {
	value, err := n.Counter(c, session)
	if err != nil {
		return err
	}
	if value > to {
		return fmt.Errorf("%w: %d, want at most %d", ErrCounterAhead, value, to)
	}
	if to-value > maxSteps {
		return fmt.Errorf("from %d to %d: more than %d steps", value, to, maxSteps)
	}
	for ; value < to; value++ {
		if err := step(); err != nil {
			return fmt.Errorf("at %d: %w", value, err)
		}
	}
	return nil
}

// Step steps a counter once (TPM2_NV_Increment, section 31.8).
func Step(c *link.Channel, auth tpm2.AuthHandle, index tpm2.NamedHandle) error {
	_, err := tpm2.NVIncrement{AuthHandle: auth, NVIndex: index}.Execute(c)
	return err
}

// Counter reads a counter.
func (n Index) Counter(c *link.Channel, session tpm2.Session) (uint64, error) {
	b, err := n.Read(c, session, policy.CounterSize)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}
