package register

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"ward/internal/trust/presence"
)

// Replaced says whether the last act that gave a device a key put this one in the
// place of another.
func (r *Register) Replaced(tenant, device, id string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		return false, err
	}
	d := r.state.devices[place(tenant, device)]
	return d != nil && d.replaced && d.AK == id, nil
}

// Add registers a key for an operator. A device that has another key keeps it
// (ErrOtherKey), unless replace is set and a reason given; a key that is another
// device's is refused (ErrTaken): one TPM is one device. A key that stands there
// already gives no act.
func (r *Register) Add(now time.Time, tenant, device string, key []byte, replace bool, reason string) (*Act, error) {
	if err := presence.CheckNames(tenant, device); err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	k, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	var act *Act
	err = r.change(func() error {
		act, err = r.adds(now, tenant, device, k, replace, reason)
		if err != nil || act == nil {
			return err
		}
		if err := r.act(*act); err != nil {
			return err
		}
		if err := r.put(tenant, device, k); err != nil {
			return fmt.Errorf("register device: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return act, nil
}

func (r *Register) adds(now time.Time, tenant, device string, k *Key, replace bool, reason string) (*Act, error) {
	before, there, err := r.before(tenant, device)
	if err != nil {
		return nil, fmt.Errorf("register device: %w", err)
	}
	if d := r.state.devices[place(tenant, device)]; d != nil && d.Revoked != nil {
		return nil, fmt.Errorf("register device %s of %s: %w: open it with 'wardfleet devices replace'", device, tenant, ErrRevoked)
	}
	act := &Act{Time: now.UTC(), Act: actAdd, Tenant: tenant, Device: device, Key: k.ID}
	switch {
	case before == "", before == k.ID && !there:
	case before == k.ID:
		return nil, nil
	case !replace:
		return nil, fmt.Errorf("register device %s of %s: %w: %s", device, tenant, ErrOtherKey, before)
	default:
		if err := checkReason(reason); err != nil {
			return nil, fmt.Errorf("register device %s of %s: to replace a key: %w", device, tenant, err)
		}
		act.Act, act.Was, act.Reason = actReplace, before, reason
	}
	if owner := r.state.owner(k.ID, place(tenant, device)); owner != "" {
		return nil, fmt.Errorf("register device %s of %s: %w: %s", device, tenant, ErrTaken, owner)
	}
	return act, nil
}

// before is the id of the key that a device has, by its file or, where somebody
// took that away, by the record of acts; "" when it never had one.
func (r *Register) before(tenant, device string) (id string, there bool, err error) {
	k, err := readKey(r.file(tenant, device))
	if err == nil {
		return k.ID, true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	if d := r.state.devices[place(tenant, device)]; d != nil {
		return d.AK, false, nil
	}
	return "", false, nil
}

// Replace opens a device for one other TPM, which may then enrol in its place,
// once. With ek, the SHA-256 of an endorsement key's SubjectPublicKeyInfo in hex,
// only that one may; it is also the only way back for a revoked one. ErrUnknown:
// there is no such device.
func (r *Register) Replace(now time.Time, tenant, device, reason, ek string) (*Act, error) {
	if b, err := hex.DecodeString(ek); ek != "" && (err != nil || len(b) != 32 || strings.ToLower(ek) != ek) {
		return nil, fmt.Errorf("replace device: endorsement key %.80q: want a SHA-256 in lower-case hex", ek)
	}
	return r.decide(now, actOpen, tenant, device, reason, ek)
}

// Revoke revokes a device: what was issued to it goes to the revocation list, and
// its TPM gets nothing more. ErrRevoked: it is revoked already.
func (r *Register) Revoke(now time.Time, tenant, device, reason string) (*Act, error) {
	return r.decide(now, actRevoke, tenant, device, reason, "")
}

func (r *Register) decide(now time.Time, act, tenant, device, reason, ek string) (*Act, error) {
	if err := presence.CheckNames(tenant, device); err != nil {
		return nil, fmt.Errorf("%s device: %w", act, err)
	}
	if err := checkReason(reason); err != nil {
		return nil, fmt.Errorf("%s device %s of %s: %w", act, device, tenant, err)
	}
	a := Act{Time: now.UTC(), Act: act, Tenant: tenant, Device: device, EK: ek, Reason: reason}
	err := r.change(func() error {
		d := r.state.devices[place(tenant, device)]
		switch {
		case d == nil:
			return fmt.Errorf("%s device %s of %s: %w", act, device, tenant, ErrUnknown)
		case act == actRevoke && d.Revoked != nil && !d.Open:
			return fmt.Errorf("%s device %s of %s: %w: since %s", act, device, tenant, ErrRevoked, d.Revoked.Format(time.RFC3339))
		}
		if owner := r.state.byEK[ek]; ek != "" && owner != "" && owner != d.place() {
			return fmt.Errorf("%s device %s of %s: %w: the TPM is enrolled as %s", act, device, tenant, ErrTaken, owner)
		}
		a.Key = d.AK
		return r.act(a)
	})
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// Device returns what the record says of a device; ErrUnknown: nothing.
func (r *Register) Device(tenant, device string) (Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		return Device{}, err
	}
	d := r.state.devices[place(tenant, device)]
	if d == nil {
		return Device{}, fmt.Errorf("look up device %s of %s: %w", device, tenant, ErrUnknown)
	}
	return *d, nil
}

// Devices lists all devices by tenant and name.
func (r *Register) Devices() ([]Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		return nil, err
	}
	all := make([]Device, 0, len(r.state.devices))
	for _, d := range r.state.devices {
		all = append(all, *d)
	}
	slices.SortFunc(all, func(a, b Device) int { return strings.Compare(a.place(), b.place()) })
	return all, nil
}
