// Package idstore keeps the device's identity in a folder of the state partition:
// who the device is, generations of its keys with their certificates, sealed
// secrets, what was learned of the fleet's roots and revocations. Every file is
// replaced whole; a power cut at any point leaves the generation that worked.
// Keys are TSS2 PRIVATE KEY files, which only the TPM that made them can load.
package idstore

import (
	"crypto/x509"
	"errors"
	"time"

	"ward/internal/format/tss2"
	"ward/internal/trust/enrolment"
)

// Folder is the store's folder in the state directory.
const Folder = "identity"

// Device is what manufacture fixed (device.json).
type Device struct {
	Version int       `json:"version"`
	Tenant  string    `json:"tenant"`
	Serial  string    `json:"serial"` // the device id
	SRK     []byte    `json:"srk"`    // TPMT_PUBLIC of the storage root key, to pin the TPM by
	Made    time.Time `json:"made"`
}

// Generation is one key and, once it was issued, its certificate.
type Generation struct {
	Use       enrolment.Use
	Number    int // from 1 on
	Key       tss2.File
	Chain     []*x509.Certificate // leaf first; nil: none was issued yet
	Connected bool                // a connection stood with it
}

// ErrNone: there is nothing of the kind in the store. ErrDamaged: a file of it
// cannot be read; the error names it.
var (
	ErrNone    = errors.New("the identity store has none")
	ErrDamaged = errors.New("the identity store is damaged")
)

// Store is one folder. Its methods are safe for concurrent use in one process.
type Store struct{ dir string }

// Open opens the store of a state directory; it need not be there.
func Open(state string) *Store { return &Store{dir: state} }

// Device reads device.json. ErrNone: the device was not manufactured yet.
func (s *Store) Device() (Device, error)  { return Device{}, ErrNone }
func (s *Store) SetDevice(d Device) error { return ErrNone }

// Generations lists the keys of a use, the newest first. Damaged ones are left
// out and told in the error, which wraps ErrDamaged; those that are whole are
// returned beside it.
func (s *Store) Generations(use enrolment.Use) ([]Generation, error) { return nil, nil }

// Add stores a new key as the next generation.
func (s *Store) Add(use enrolment.Use, key tss2.File) (Generation, error) {
	return Generation{}, ErrNone
}

// SetChain stores the certificate of a generation, DER, leaf first. It must be for
// the generation's key.
func (s *Store) SetChain(g Generation, chain [][]byte) error { return ErrNone }

// SetConnected marks a generation as one that works.
func (s *Store) SetConnected(g Generation) error { return ErrNone }

// Prune removes what is older than the newest connected generation.
func (s *Store) Prune(use enrolment.Use) error { return ErrNone }

// Secret reads a sealed secret by its name, SetSecret stores one.
func (s *Store) Secret(name string) (tss2.File, error)    { return tss2.File{}, ErrNone }
func (s *Store) SetSecret(name string, f tss2.File) error { return ErrNone }
func (s *Store) Secrets() ([]string, error)               { return nil, nil }

// CRL, Roots and Floor are what was learned in the field: the revocation list
// (DER), further roots of the fleet (DER, with what vouches for them), and the
// latest moment that was proved. ErrNone: nothing yet.
func (s *Store) CRL() ([]byte, error)        { return nil, ErrNone }
func (s *Store) SetCRL(der []byte) error     { return ErrNone }
func (s *Store) Roots() ([][]byte, error)    { return nil, ErrNone }
func (s *Store) SetRoots(der [][]byte) error { return ErrNone }
func (s *Store) Floor() (time.Time, error)   { return time.Time{}, ErrNone }
func (s *Store) SetFloor(t time.Time) error  { return ErrNone }

// Auth is an authorisation value of an NV index that is Ward's own, by the
// index's name ("journal").
func (s *Store) Auth(name string) ([]byte, error)        { return nil, ErrNone }
func (s *Store) SetAuth(name string, value []byte) error { return ErrNone }

// Wipe overwrites and removes the whole store.
func (s *Store) Wipe() error { return ErrNone }
