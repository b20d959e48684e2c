package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/trust/policy"
)

const (
	// nvChunk is read and written at once; every TPM's NV buffer takes at least
	// 512 bytes.
	nvChunk = 512
	// maxNV bounds what is read of an NV index; EK certificates take 0.8 to 2
	// KiB.
	maxNV = 8 << 10
)

var (
	// ErrNoIndex: there is no such NV index.
	ErrNoIndex = errors.New("no such NV index in the TPM")
	// ErrNeverWritten: the NV index was defined and never written.
	ErrNeverWritten = errors.New("the NV index was never written")
)

// DefineNV defines an NV index with the owner's authorisation, and gives it an
// authorisation value of its own (TPM2_NV_DefineSpace, Part 3, section 31.3). An
// index that is there with the same public area is kept, with what it holds;
// another one gives ErrOccupied. The value crosses the bus encrypted.
func (t *TPM) DefineNV(ctx context.Context, index policy.Index, auth []byte) error {
	if err := usable(auth); err != nil {
		return fmt.Errorf("define NV index: %w", err)
	}
	_, err := run(ctx, t, fmt.Sprintf("define NV index 0x%08x", index.Handle), func(c *channel) (struct{}, error) {
		return struct{}{}, t.defineNV(c, index, auth)
	})
	return err
}

func (t *TPM) defineNV(c *channel, index policy.Index, auth []byte) error {
	if _, err := nvName(c, index); !errors.Is(err, ErrNoIndex) {
		return err
	}
	public, err := tpm2.Unmarshal[tpm2.TPMSNVPublic](index.Area(false))
	if err != nil {
		return fmt.Errorf("encode public area: %w", err)
	}
	owner, err := t.owner(c)
	if err != nil {
		return err
	}
	defer done(c, owner)
	command := tpm2.NVDefineSpace{AuthHandle: owner, Auth: tpm2.TPM2BAuth{Buffer: auth}, PublicInfo: tpm2.New2B(*public)}
	var extra []tpm2.Session
	if len(auth) > 0 {
		root, _, err := t.storageSalt(c)
		if err != nil {
			return err
		}
		session, err := protected(c, root, tpm2.AESEncryption(aesBits, tpm2.EncryptIn))
		if err != nil {
			return err
		}
		defer c.Flush(session.Handle())
		extra = []tpm2.Session{session}
	}
	_, err = command.Execute(c, extra...)
	return owned(err)
}

// UndefineNV removes an NV index with the owner's authorisation. None there is
// no error. A counter that is defined again starts above the highest one that
// was ever removed.
func (t *TPM) UndefineNV(ctx context.Context, index policy.Index) error {
	_, err := run(ctx, t, fmt.Sprintf("undefine NV index 0x%08x", index.Handle), func(c *channel) (struct{}, error) {
		name, err := nvName(c, index)
		if errors.Is(err, ErrNoIndex) {
			return struct{}{}, nil
		}
		if err != nil {
			return struct{}{}, err
		}
		owner, err := t.owner(c)
		if err != nil {
			return struct{}{}, err
		}
		_, err = tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: name.named}.Execute(c)
		return struct{}{}, owned(err)
	})
	return err
}

// ReadNV reads an NV index with its authorisation value. Nobody between the TPM
// and the processor can change the answer.
func (t *TPM) ReadNV(ctx context.Context, index policy.Index, auth []byte) ([]byte, error) {
	return run(ctx, t, fmt.Sprintf("read NV index 0x%08x", index.Handle), func(c *channel) ([]byte, error) {
		name, session, err := t.openNV(c, index, auth, fromTPM)
		if err != nil {
			return nil, err
		}
		return name.read(c, session, int(index.Size))
	})
}

// WriteNV writes an ordinary NV index from its beginning with its authorisation
// value; the data cross the bus encrypted.
func (t *TPM) WriteNV(ctx context.Context, index policy.Index, auth, data []byte) error {
	_, err := run(ctx, t, fmt.Sprintf("write NV index 0x%08x", index.Handle), func(c *channel) (struct{}, error) {
		name, session, err := t.openNV(c, index, auth, toTPM)
		for at := 0; err == nil && at < len(data); at += nvChunk {
			part := data[at:min(at+nvChunk, len(data))]
			_, err = tpm2.NVWrite{AuthHandle: name.with(session), NVIndex: name.named, Data: tpm2.TPM2BMaxNVBuffer{Buffer: part}, Offset: uint16(at)}.Execute(c)
			if err == nil && !name.written {
				name, err = nvName(c, index) // the first writing changes the name
			}
		}
		return struct{}{}, err
	})
	return err
}

// nvDirection says which way a session hides the data.
type nvDirection int

const (
	neither nvDirection = iota
	toTPM
	fromTPM
)

// openNV finds an index and opens a session that authorises its use.
func (t *TPM) openNV(c *channel, index policy.Index, auth []byte, direction nvDirection) (nvIndex, tpm2.Session, error) {
	if err := usable(auth); err != nil {
		return nvIndex{}, nil, err
	}
	name, err := nvName(c, index)
	if err != nil {
		return nvIndex{}, nil, err
	}
	root, _, err := t.storageSalt(c)
	if err != nil {
		return nvIndex{}, nil, err
	}
	options := []tpm2.AuthOption{tpm2.Auth(auth)}
	switch direction {
	case toTPM:
		options = append(options, tpm2.AESEncryption(aesBits, tpm2.EncryptIn))
	case fromTPM:
		options = append(options, tpm2.AESEncryption(aesBits, tpm2.EncryptOut))
	}
	session, err := protected(c, root, options...)
	return name, session, err
}

// nvIndex is an index that is there, by the Name that it must have.
type nvIndex struct {
	named   tpm2.NamedHandle
	written bool
}

func (n nvIndex) with(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: n.named.Handle, Name: n.named.Name, Auth: session}
}

// nvName finds an index. The Name is computed and not believed: an index with
// other attributes or another policy gives ErrOccupied.
func nvName(c *channel, index policy.Index) (nvIndex, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index.Handle)}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nvIndex{}, fmt.Errorf("%w: %w", ErrNoIndex, err)
	}
	if err != nil {
		return nvIndex{}, err
	}
	for _, written := range []bool{false, true} {
		if name := index.Name(written); bytes.Equal(name, rsp.NVName.Buffer) {
			return nvIndex{named: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index.Handle), Name: tpm2.TPM2BName{Buffer: name}}, written: written}, nil
		}
	}
	return nvIndex{}, fmt.Errorf("%w: NV index 0x%08x", ErrOccupied, index.Handle)
}

// read reads size bytes.
func (n nvIndex) read(c *channel, session tpm2.Session, size int) ([]byte, error) {
	var data []byte
	for len(data) < size {
		want := min(nvChunk, size-len(data))
		part, err := tpm2.NVRead{AuthHandle: n.with(session), NVIndex: n.named, Size: uint16(want), Offset: uint16(len(data))}.Execute(c)
		if errors.Is(err, tpm2.TPMRCNVUninitialized) {
			return nil, fmt.Errorf("%w: %w", ErrNeverWritten, err)
		}
		if err != nil {
			return nil, err
		}
		if len(part.Data.Buffer) != want {
			return nil, fmt.Errorf("%w: %d bytes, want %d", ErrResponse, len(part.Data.Buffer), want)
		}
		data = append(data, part.Data.Buffer...)
	}
	return data, nil
}

// optionalNV reads a whole NV index of the maker's with its own, empty
// authorisation; nil when there is none. What is read is public and signed.
func optionalNV(c *channel, index uint32) ([]byte, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	if public.DataSize > maxNV {
		return nil, fmt.Errorf("%d bytes, at most %d are read", public.DataSize, maxNV)
	}
	n := nvIndex{named: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: rsp.NVName}}
	return n.read(c, tpm2.PasswordAuth(nil), int(public.DataSize))
}
