package register

import (
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"ward/internal/trust/presence"
)

// Claim is what a device has proved, or says before it proves it.
type Claim struct {
	Tenant, Device string
	EK             [32]byte // SHA-256 of the endorsement key's SubjectPublicKeyInfo
	AK             *ecdsa.PublicKey
}

// Admits says whether a claim would be enrolled, and records nothing.
func (r *Register) Admits(now time.Time, c Claim) error {
	k, err := c.check()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.read(), r.readIssued(now)); err != nil {
		return err
	}
	_, err = r.admits(c, k)
	return err
}

// Enrol registers a device with the TPM that it has proved, and returns its life,
// which what is issued belongs to. A device that is registered with this TPM is
// registered again without an act. Refusals: ErrOtherTPM, ErrOtherKey, ErrTaken,
// ErrRevoked.
func (r *Register) Enrol(now time.Time, c Claim) (life int, err error) {
	k, err := c.check()
	if err != nil {
		return 0, err
	}
	err = r.change(func() error {
		if err := r.readIssued(now); err != nil {
			return err
		}
		act, err := r.admits(c, k)
		if err != nil {
			return err
		}
		if act != "" {
			a := Act{Time: now.UTC(), Act: act, Tenant: c.Tenant, Device: c.Device, Key: k.ID, EK: hex.EncodeToString(c.EK[:])}
			if d := r.state.devices[place(c.Tenant, c.Device)]; d != nil && act == actReplace {
				a.Was, a.Reason = d.AK, d.Reason
			}
			if err := r.act(a); err != nil {
				return err
			}
		}
		if err := r.put(c.Tenant, c.Device, k); err != nil {
			return fmt.Errorf("register device: %w", err)
		}
		life = r.state.devices[place(c.Tenant, c.Device)].Life
		return nil
	})
	return life, err
}

func (c Claim) check() (*Key, error) {
	if err := presence.CheckNames(c.Tenant, c.Device); err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	k, err := newKey(c.AK)
	if err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	return k, nil
}

// admits returns the act that a claim takes: "" when it is registered so. In this
// order: the endorsement key is no other device's; the attestation key is none's;
// the device is not revoked; it is the same TPM, or was registered by its
// attestation key alone, or the device stands open for this one.
func (r *Register) admits(c Claim, k *Key) (string, error) {
	name, ek := place(c.Tenant, c.Device), hex.EncodeToString(c.EK[:])
	refuse := func(err error, what string) error {
		return fmt.Errorf("register device %s of %s: %w: %s", c.Device, c.Tenant, err, what)
	}
	if owner := r.state.byEK[ek]; owner != "" && owner != name {
		return "", refuse(ErrTaken, "the TPM is enrolled as "+owner)
	}
	if owner := r.state.owner(k.ID, name); owner != "" {
		return "", refuse(ErrTaken, owner)
	}
	there, err := readKey(r.file(c.Tenant, c.Device))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	d, err := r.whole(name)
	if err != nil {
		return "", err
	}
	if d == nil {
		if there != nil && there.ID != k.ID {
			return "", refuse(ErrOtherKey, there.ID)
		}
		return actEnrol, nil
	}
	if d.Open && (d.OpenEK == ek || d.OpenEK == "" && !r.state.barred[ek] && (d.EK != ek || d.AK != k.ID)) {
		return actReplace, nil
	}
	switch {
	case d.Revoked != nil:
		return "", refuse(ErrRevoked, "since "+d.Revoked.Format(time.RFC3339))
	case d.EK != "" && d.EK != ek:
		return "", refuse(ErrOtherTPM, d.EK)
	case d.AK != k.ID:
		return "", refuse(ErrOtherKey, d.AK)
	case there != nil && there.ID != k.ID:
		return "", refuse(ErrOtherKey, "the file of the key was exchanged, without an act: it holds "+there.ID)
	case d.EK == "":
		return actEnrol, nil
	}
	return "", nil
}
