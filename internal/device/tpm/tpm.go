// Package tpm is the only owner of the TPM 2.0 on the device and, with the
// packages beneath it, the only importer of go-tpm's transports: reading PCRs,
// making, naming and certifying the device's keys, signing with them, sealing
// secrets to the approved boot state, and counters that cannot go back (TPM 2.0
// Library Specification, Parts 1 to 3; TCG TPM v2.0 Provisioning Guidance).
// Package link beneath it sends the commands: one operation at a time, bounded.
// docs/tpm.md lists every handle, and what a session protects.
package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"sync"

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

// What can go wrong on the way to the TPM; package link says what each means.
var (
	ErrAbsent        = link.ErrAbsent
	ErrTransport     = link.ErrTransport
	ErrTimeout       = link.ErrTimeout
	ErrResponse      = link.ErrResponse
	ErrTampered      = link.ErrTampered
	ErrBusy          = link.ErrBusy
	ErrExhausted     = link.ErrExhausted
	ErrNVRate        = link.ErrNVRate
	ErrNVUnavailable = link.ErrNVUnavailable
	ErrNVSpace       = link.ErrNVSpace
	ErrLockout       = link.ErrLockout
	ErrAuthorization = link.ErrAuthorization
	ErrReset         = link.ErrReset
	ErrNotStarted    = link.ErrNotStarted
	ErrFailure       = link.ErrFailure
)

// What can be wrong with what the TPM holds, for those who branch on it.
var (
	// ErrNoKey: there is no key at the handle.
	ErrNoKey = errors.New("no key at this TPM handle")
	// ErrOccupied: another object or index than Ward's lies at the handle.
	ErrOccupied = errors.New("the TPM handle holds something else than Ward's")
	// ErrOtherTPM: this is not the TPM that made the key, blob or pin.
	ErrOtherTPM = errors.New("this is another TPM")
	// ErrOwned: the TPM has an owner whose authorisation Ward was not given.
	ErrOwned = errors.New("the TPM has an owner whose authorisation is not known")
)

// Transport carries commands to one TPM and its responses back.
type Transport = link.Transport

// channel is the TPM as one operation sees it.
type channel = link.Channel

// TPM is one TPM. It is safe for concurrent use; operations go one at a time.
type TPM struct {
	link *link.Link

	mu    sync.Mutex
	auths Authorizations
	pin   *Key // the storage root key of the TPM that is meant
}

// Authorizations are those of the TPM's hierarchies. Manufacture sets them; an
// empty one is what a TPM has before that.
type Authorizations struct {
	Owner, Endorsement []byte
}

// Open opens a TPM's device file ("/dev/tpmrm0") or the UNIX socket of a
// software TPM. A path where there is nothing gives ErrAbsent.
func Open(path string) (*TPM, error) {
	l, err := link.Open(path)
	if err != nil {
		return nil, err
	}
	return &TPM{link: l}, nil
}

// New makes a TPM of a transport. It is opened at the first command, and anew
// after it has failed.
func New(open func() (Transport, error)) *TPM { return &TPM{link: link.New(open)} }

// Close closes the transport, also under a command that hangs.
func (t *TPM) Close() error { return t.link.Close() }

// Authorize gives the hierarchies' authorisations for the operations that need
// them. A value that holds a zero byte is refused.
func (t *TPM) Authorize(a Authorizations) error {
	if err := errors.Join(usable(a.Owner), usable(a.Endorsement)); err != nil {
		return fmt.Errorf("authorize: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.auths = a
	return nil
}

// Pin fixes the TPM by its storage root key, as manufacture read it. From then
// on sessions are salted to this key and to no other, so that neither another
// TPM nor somebody between it and the processor can take its place, and
// ReadPCRs is protected too.
func (t *TPM) Pin(srk Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pin = &srk
}

func (t *TPM) authorizations() Authorizations {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.auths
}

// run does one operation. When the TPM is in lockout, the error says how long.
func run[T any](ctx context.Context, t *TPM, what string, operation func(*channel) (T, error)) (T, error) {
	v, err := link.Do(ctx, t.link, what, operation)
	if errors.Is(err, ErrLockout) {
		if s, statusErr := t.Status(ctx); statusErr == nil {
			err = fmt.Errorf("%w: %s", err, s.remedy())
		}
	}
	return v, err
}

// Key is the public part of a key in the TPM.
type Key struct {
	Handle uint32 // 0: a key that is kept outside and loaded for use
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
