// Package tpm is the only owner of the TPM 2.0 on the device and the only
// importer of go-tpm's transports: reading PCRs, making and naming the
// device's keys, and signing with them (TPM 2.0 Library Specification, Parts 1
// to 3; TCG TPM v2.0 Provisioning Guidance). Commands go one at a time, are
// retried within a bound when the TPM says that it is busy, and end with their
// context even when the TPM hangs. docs/tpm.md lists every handle.
package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"

	"ward/internal/device/tpm/link"
	"ward/internal/format/pcr"
)

// Persistent handles (TCG Registry of Reserved TPM 2.0 Handles and
// Localities; docs/tpm.md).
const (
	HandleSRK       uint32 = 0x81000001 // storage root key
	HandleAK        uint32 = 0x81001000 // attestation key, restricted
	HandleReporting uint32 = 0x81001001 // reporting LDevID, mTLS to the broker
)

// What can go wrong, for those who branch on it. The first group comes from the
// way to the TPM (package link says more of each).
var (
	ErrAbsent        = link.ErrAbsent        // there is no device file or socket
	ErrTransport     = link.ErrTransport     // the device file or socket failed
	ErrTimeout       = link.ErrTimeout       // no answer in time
	ErrResponse      = link.ErrResponse      // the answer is no TPM response, or not complete
	ErrTampered      = link.ErrTampered      // the answer was changed on its way
	ErrBusy          = link.ErrBusy          // busy until the bound of the retries
	ErrExhausted     = link.ErrExhausted     // others hold its slots for objects or sessions
	ErrNVRate        = link.ErrNVRate        // NV memory is protected from wear
	ErrNVUnavailable = link.ErrNVUnavailable // NV memory cannot be written
	ErrNVSpace       = link.ErrNVSpace       // NV memory is full
	ErrLockout       = link.ErrLockout       // dictionary attack lockout: wait, or use its authorisation
	ErrAuthorization = link.ErrAuthorization // an authorisation that Ward does not have
	ErrReset         = link.ErrReset         // the TPM was reset in the middle of an operation
	ErrNotStarted    = link.ErrNotStarted    // no TPM2_Startup since the last reset
	ErrFailure       = link.ErrFailure       // failure mode, or a firmware update of the TPM

	// ErrNoKey: there is no key at the handle.
	ErrNoKey = errors.New("no key at this TPM handle")
	// ErrOccupied: another object than Ward's lies at the handle.
	ErrOccupied = errors.New("the TPM handle holds another key")
)

// Key is the public part of a key in the TPM.
type Key struct {
	Handle uint32
	Public *ecdsa.PublicKey
	Name   []byte // TPM2B_NAME: algorithm and digest of the public area
	Area   []byte // TPMT_PUBLIC, marshalled
}

// Certification is the AK's statement that a key lives in the same TPM
// (TPM2_Certify): a TPMS_ATTEST and its TPMT_SIGNATURE, both marshalled.
type Certification struct {
	Attest    []byte
	Signature []byte
}

// Keys are the keys of a provisioned device.
type Keys struct {
	SRK, AK, Reporting Key
	Certification      Certification // of the reporting key by the AK
}

var _ interface {
	ReadPCRs(context.Context, pcr.Algorithm, []int) (pcr.Values, error)
	ProvisionKeys(context.Context) (Keys, error)
	ReadPublic(context.Context, uint32) (Key, error)
	Signer(context.Context, uint32) (crypto.Signer, error)
	EKCertificate(context.Context) ([]byte, error)
	Close() error
} = (*TPM)(nil)
