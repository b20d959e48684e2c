package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/nvram"
	"ward/internal/device/tpm/session"
	"ward/internal/trust/policy"
)

// DefineNV defines an NV index with the owner's authorisation, and gives it an
// authorisation value of its own (TPM2_NV_DefineSpace, Part 3, section 31.3). An
// index that is there with the same public area is kept, with what it holds;
// another one gives ErrOccupied. The value crosses the bus encrypted.
func (t *TPM) DefineNV(ctx context.Context, index policy.Index, auth []byte) error {
	if err := session.Usable(auth); err != nil {
		return fmt.Errorf("define NV index: %w", err)
	}
	_, err := run(ctx, t, fmt.Sprintf("define NV index 0x%08x", index.Handle), func(c *channel) (struct{}, error) {
		return struct{}{}, t.defineNV(c, index, auth)
	})
	return err
}

func (t *TPM) defineNV(c *channel, index policy.Index, auth []byte) error {
	if _, err := nvram.Find(c, index); !errors.Is(err, nvram.ErrNoIndex) {
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
	defer session.Done(c, owner)
	command := tpm2.NVDefineSpace{AuthHandle: owner, Auth: tpm2.TPM2BAuth{Buffer: auth}, PublicInfo: tpm2.New2B(*public)}
	var extra []tpm2.Session
	if len(auth) > 0 {
		root, _, err := t.storageSalt(c)
		if err != nil {
			return err
		}
		guarded, err := session.Protected(c, root, session.HideCommand)
		if err != nil {
			return err
		}
		defer c.Flush(guarded.Handle())
		extra = []tpm2.Session{guarded}
	}
	_, err = command.Execute(c, extra...)
	return owned(err)
}

// UndefineNV removes an NV index with the owner's authorisation. None there is
// no error. A counter that is defined again starts above the highest one that
// was ever removed.
func (t *TPM) UndefineNV(ctx context.Context, index policy.Index) error {
	_, err := run(ctx, t, fmt.Sprintf("undefine NV index 0x%08x", index.Handle), func(c *channel) (struct{}, error) {
		name, err := nvram.Find(c, index)
		if errors.Is(err, nvram.ErrNoIndex) {
			return struct{}{}, nil
		}
		if err != nil {
			return struct{}{}, err
		}
		owner, err := t.owner(c)
		if err != nil {
			return struct{}{}, err
		}
		_, err = tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: name.Named}.Execute(c)
		return struct{}{}, owned(err)
	})
	return err
}

// ReadNV reads an NV index with its authorisation value. Nobody between the TPM
// and the processor can change the answer.
func (t *TPM) ReadNV(ctx context.Context, index policy.Index, auth []byte) ([]byte, error) {
	return run(ctx, t, fmt.Sprintf("read NV index 0x%08x", index.Handle), func(c *channel) ([]byte, error) {
		name, guarded, err := t.openNV(c, index, auth, fromTPM)
		if err != nil {
			return nil, err
		}
		return name.Read(c, guarded, int(index.Size))
	})
}

// WriteNV writes an ordinary NV index from its beginning with its authorisation
// value; the data cross the bus encrypted.
func (t *TPM) WriteNV(ctx context.Context, index policy.Index, auth, data []byte) error {
	_, err := run(ctx, t, fmt.Sprintf("write NV index 0x%08x", index.Handle), func(c *channel) (struct{}, error) {
		name, guarded, err := t.openNV(c, index, auth, toTPM)
		for at := 0; err == nil && at < len(data); at += nvram.Chunk {
			part := data[at:min(at+nvram.Chunk, len(data))]
			_, err = tpm2.NVWrite{AuthHandle: name.With(guarded), NVIndex: name.Named, Data: tpm2.TPM2BMaxNVBuffer{Buffer: part}, Offset: uint16(at)}.Execute(c)
			if err == nil && !name.Written {
				name, err = nvram.Find(c, index) // the first writing changes the name
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
func (t *TPM) openNV(c *channel, index policy.Index, auth []byte, direction nvDirection) (nvram.Index, tpm2.Session, error) {
	if err := session.Usable(auth); err != nil {
		return nvram.Index{}, nil, err
	}
	name, err := nvram.Find(c, index)
	if err != nil {
		return nvram.Index{}, nil, err
	}
	root, _, err := t.storageSalt(c)
	if err != nil {
		return nvram.Index{}, nil, err
	}
	options := []tpm2.AuthOption{tpm2.Auth(auth)}
	switch direction {
	case toTPM:
		options = append(options, session.HideCommand)
	case fromTPM:
		options = append(options, session.HideAnswer)
	}
	guarded, err := session.Protected(c, root, options...)
	return name, guarded, err
}
