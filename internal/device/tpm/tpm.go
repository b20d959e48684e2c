// Package tpm is the only owner of the TPM 2.0 on the device and, with the
// packages beneath it, the only importer of go-tpm's transports: reading PCRs,
// making, naming and certifying the device's keys, signing with them, sealing
// secrets to the approved boot state, and counters that cannot go back (TPM 2.0
// Library Specification, Parts 1 to 3; TCG TPM v2.0 Provisioning Guidance).
// Package link beneath it sends the commands: one operation at a time, bounded.
// docs/tpm.md lists every handle, and what a session protects.
package tpm

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"

	"ward/internal/device/tpm/bootpolicy"
	"ward/internal/device/tpm/ekstore"
	"ward/internal/device/tpm/link"
	"ward/internal/device/tpm/nvram"
	"ward/internal/device/tpm/object"
	"ward/internal/device/tpm/session"
	"ward/internal/device/tpm/status"
	"ward/internal/format/pcr"
)

// Persistent handles (TCG Registry of Reserved TPM 2.0 Handles and
// Localities; docs/tpm.md).
const (
	HandleSRK uint32 = 0x81000001 // storage root key
	HandleAK  uint32 = 0x81001000 // attestation key, restricted
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

// What can be wrong with what is asked of it; the packages beneath say what each
// means.
var (
	ErrNoKey         = object.ErrNoKey
	ErrOtherTPM      = session.ErrOtherTPM
	ErrOccupied      = nvram.ErrOccupied
	ErrNoIndex       = nvram.ErrNoIndex
	ErrNeverWritten  = nvram.ErrNeverWritten
	ErrCounterAhead  = nvram.ErrCounterAhead
	ErrNoCertificate = ekstore.ErrNoCertificate
	ErrBootState     = bootpolicy.ErrBootState
	ErrRollback      = bootpolicy.ErrRollback
	ErrPolicy        = bootpolicy.ErrPolicy
)

// Boot is what opens an object that is bound to the boot state.
type Boot = bootpolicy.Boot

// Status asks the TPM for its own state. It needs no authorisation and works in
// lockout.
func (t *TPM) Status(ctx context.Context) (Status, error) {
	return link.Do(ctx, t.link, "read TPM status", status.Read)
}

// Maker asks the TPM who made it and which firmware it runs. It needs no
// authorisation.
func (t *TPM) Maker(ctx context.Context) (Maker, error) {
	return link.Do(ctx, t.link, "read TPM maker", status.ReadMaker)
}

// NewAuth makes a random authorisation value that can be used here.
func NewAuth() []byte { return session.NewAuth() }

// What can be wrong with what the TPM holds, for those who branch on it.
var (
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
	if err := errors.Join(session.Usable(a.Owner), session.Usable(a.Endorsement)); err != nil {
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

// run does one operation. When the TPM is in lockout, the error says how long;
// when a pinned TPM refuses, whether it is the one that was pinned: another one
// reads another salt and finds every HMAC wrong.
func run[T any](ctx context.Context, t *TPM, what string, operation func(*channel) (T, error)) (T, error) {
	v, err := link.Do(ctx, t.link, what, operation)
	if err != nil {
		err = t.explained(ctx, err)
	}
	return v, err
}

// explained adds to an error what the TPM says of its cause.
func (t *TPM) explained(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrLockout):
		if s, statusErr := t.Status(ctx); statusErr == nil {
			err = fmt.Errorf("%w: %s", err, s.Remedy())
		}
	case errors.Is(err, ErrAuthorization) && t.pinned() != nil:
		now, readErr := link.Do(ctx, t.link, "read storage root key", func(c *channel) (Key, error) {
			key, _, err := object.ReadPublic(c, HandleSRK)
			return key, err
		})
		if readErr == nil && !bytes.Equal(now.Name, t.pinned().Name) {
			err = fmt.Errorf("%w: %w", ErrOtherTPM, err)
		}
	}
	return err
}

func (t *TPM) pinned() *Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pin
}

// The words of package object that others need.
type (
	Key           = object.Key
	Certification = object.Certification
	Blob          = object.Blob
	Status        = status.Status
	Maker         = status.Maker
)

// Keys are the persistent keys of a provisioned device.
type Keys struct{ SRK, AK Key }

var _ interface {
	ReadPCRs(context.Context, pcr.Algorithm, []int) (pcr.Values, error)
	ProvisionKeys(context.Context) (Keys, error)
	ReadPublic(context.Context, uint32) (Key, error)
	Signer(context.Context, uint32) (crypto.Signer, error)
	EKCertificate(context.Context) ([]byte, error)
	Close() error
} = (*TPM)(nil)
