// Package object names, loads and certifies keys and sealed secrets (TPM 2.0
// Library Specification, Part 1, sections 16 and 27, and Part 3, sections 12 and
// 18.2). What a TPM says of a key is taken only if the Name fits it.
package object

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
	"ward/internal/device/tpm/nvram"
	"ward/internal/device/tpm/session"
)

// ErrNoKey: there is no key at the handle.
var ErrNoKey = errors.New("no key at this TPM handle")

// Key is the public part of a key in the TPM.
type Key struct {
	Handle uint32 // 0: a key that is kept outside and loaded for use
	Public *ecdsa.PublicKey
	Name   []byte // TPM2B_NAME: algorithm and digest of the public area
	Area   []byte // TPMT_PUBLIC, marshalled
}

// Plain names the key for a command, with its empty authorisation.
func (k Key) Plain() tpm2.AuthHandle { return k.With(tpm2.PasswordAuth(nil)) }

// With names the key for a command that a session authorises.
func (k Key) With(guarded tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(k.Handle), Name: tpm2.TPM2BName{Buffer: k.Name}, Auth: guarded}
}

// Certification is the AK's statement that a key lives in the same TPM
// (TPM2_Certify): a TPMS_ATTEST and its TPMT_SIGNATURE, both marshalled.
type Certification struct {
	Attest    []byte
	Signature []byte
}

// Blob is a key or a sealed secret that is kept outside of the TPM. The TPM that
// made it can load it, and no other.
type Blob struct {
	Public  []byte `json:"public"`  // TPMT_PUBLIC
	Private []byte `json:"private"` // what a TPM2B_PRIVATE holds, encrypted by the TPM
}

// Key reads the public part of a key that is kept outside.
func (b Blob) Key() (Key, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](b.Public)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	return KeyOf(0, public)
}

// ReadPublic reads the public part of a persistent P-256 key
// (TPM2_ReadPublic, Part 3, section 12.4). No key there gives ErrNoKey.
func ReadPublic(c *link.Channel, handle uint32) (Key, *tpm2.TPMTPublic, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return Key{}, nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if err != nil {
		return Key{}, nil, err
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return Key{}, nil, fmt.Errorf("%w: %w", link.ErrResponse, err)
	}
	key, err := KeyOf(handle, public)
	if err == nil && !bytes.Equal(key.Name, rsp.Name.Buffer) {
		return Key{}, nil, fmt.Errorf("%w: the name is not the one of the public area", link.ErrResponse)
	}
	return key, public, err
}

// KeyOf reads a P-256 key from its public area.
func KeyOf(handle uint32, public *tpm2.TPMTPublic) (Key, error) {
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", link.ErrResponse, err)
	}
	if public.Type != tpm2.TPMAlgECC {
		return Key{}, fmt.Errorf("%w: it is not an elliptic curve key", nvram.ErrOccupied)
	}
	pub, err := tpm2.Pub(*public)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", link.ErrResponse, err)
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return Key{}, fmt.Errorf("%w: it is not on the curve P-256", nvram.ErrOccupied)
	}
	if _, err := ec.ECDH(); err != nil {
		return Key{}, fmt.Errorf("%w: %w", link.ErrResponse, err)
	}
	return Key{Handle: handle, Public: ec, Name: name.Buffer, Area: tpm2.Marshal(*public)}, nil
}

// Load loads a blob until the operation ends. Only the handle and the Name of
// what is returned are set.
func Load(c *link.Channel, root Key, blob Blob) (Key, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](blob.Public)
	if err != nil {
		return Key{}, fmt.Errorf("load: read public area: %w", err)
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return Key{}, fmt.Errorf("load: %w", err)
	}
	rsp, err := tpm2.Load{
		ParentHandle: root.Plain(), InPrivate: tpm2.TPM2BPrivate{Buffer: blob.Private}, InPublic: tpm2.New2B(*public),
	}.Execute(c)
	switch {
	case errors.Is(err, tpm2.TPMRCIntegrity), errors.Is(err, tpm2.TPMRCBinding):
		return Key{}, fmt.Errorf("load: %w, or the blob was changed: %w", session.ErrOtherTPM, err)
	case errors.Is(err, tpm2.TPMRCHandle):
		return Key{}, fmt.Errorf("load: %w: %w", ErrNoKey, err)
	case err != nil:
		return Key{}, fmt.Errorf("load: %w", err)
	case !bytes.Equal(rsp.Name.Buffer, name.Buffer):
		return Key{}, fmt.Errorf("load: %w: another name than the blob's", link.ErrResponse)
	}
	return Key{Handle: uint32(rsp.ObjectHandle), Name: name.Buffer}, nil
}

// Certify has the attestation key state that the key lives in this TPM
// (TPM2_Certify, Part 3, section 18.2).
func Certify(c *link.Channel, key, ak Key) (Certification, error) {
	rsp, err := tpm2.Certify{
		ObjectHandle: key.Plain(),
		SignHandle:   ak.Plain(),
		InScheme:     tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		return Certification{}, err
	}
	return Certification{Attest: rsp.CertifyInfo.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}, nil
}
