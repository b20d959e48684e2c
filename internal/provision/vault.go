package provision

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/format/dsse"
	"ward/internal/trust/event"
)

const (
	// vaultVersion is the version of vault files.
	vaultVersion = 1
	// MaxVault bounds a vault file, in bytes; one has some 500.
	MaxVault = 8 << 10
	// authSize is the size of an authorisation value, in bytes (tpm.NewAuth).
	authSize = 32
)

// Vault is what the factory keeps of a device and the device must not have: the
// authorisations of its TPM's owner and lockout hierarchies.
type Vault struct {
	Version int       `json:"version"`
	Tenant  string    `json:"tenant"`
	Serial  string    `json:"serial"`
	EK      string    `json:"ek,omitempty"` // as Result.EK
	Owner   string    `json:"owner"`        // base 16
	Lockout string    `json:"lockout"`      // base 16
	Made    time.Time `json:"made"`
}

func newVault(tenant, serial, ek string, now time.Time) Vault {
	return Vault{
		Version: vaultVersion, Tenant: tenant, Serial: serial, EK: ek, Made: now.UTC(),
		Owner: hex.EncodeToString(tpm.NewAuth()), Lockout: hex.EncodeToString(tpm.NewAuth()),
	}
}

// Encode writes a vault file.
func (v Vault) Encode() ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("write vault file: %w", err)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write vault file: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseVault reads a vault file: strict JSON. Errors wrap ErrVault and show
// nothing of what it holds.
func ParseVault(b []byte) (Vault, error) {
	var v Vault
	if len(b) > MaxVault {
		return Vault{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrVault, len(b), MaxVault)
	}
	if err := dsse.DecodeJSON(b, &v); err != nil {
		return Vault{}, fmt.Errorf("%w: it is no JSON of a vault", ErrVault)
	}
	if err := v.check(); err != nil {
		return Vault{}, fmt.Errorf("%w: %w", ErrVault, err)
	}
	return v, nil
}

func (v Vault) check() error {
	if v.Version != vaultVersion {
		return fmt.Errorf("version %d, want %d", v.Version, vaultVersion)
	}
	if err := event.CheckName(v.Tenant); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	if err := event.CheckName(v.Serial); err != nil {
		return fmt.Errorf("serial number: %w", err)
	}
	if ek, err := hex.DecodeString(v.EK); err != nil || len(ek) != 0 && len(ek) != 32 {
		return errors.New("endorsement key: want 64 digits of base 16")
	}
	_, _, err := v.values()
	return err
}

// values are the two authorisations.
func (v Vault) values() (owner, lockout []byte, err error) {
	owner, ownerErr := hex.DecodeString(v.Owner)
	lockout, lockoutErr := hex.DecodeString(v.Lockout)
	if ownerErr != nil || lockoutErr != nil || len(owner) != authSize || len(lockout) != authSize {
		return nil, nil, errors.New("an authorisation is not 64 digits of base 16")
	}
	return owner, lockout, nil
}
