package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"ward/internal/agent/identity/board"
	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/agent/identity/roots"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth"
)

// clockSlack is how far behind a proved moment the clock may be before that is
// said: the clocks of fleet and device are set apart.
const clockSlack = 10 * time.Minute

// Fault is why there is no usable identity, as a finding.
type Fault = board.Fault

// usable is a generation whose certificate is good, with its key's signer.
type usable struct {
	idstore.Generation
	signer crypto.Signer
	tls    *tls.Config // of a reporting identity
	trust  string      // fingerprint of the roots that tls was made with
}

func (u usable) leaf() *x509.Certificate { return u.Chain[0] }

// Subject reads tenant and device id from the identity store in a state
// directory. It needs no TPM and proves nothing.
func Subject(state string) (tenant, device string, err error) {
	d, err := idstore.Open(state).Device()
	return d.Tenant, d.Serial, err
}

// look reads everything that an identity needs. Its error is always a *Fault. It
// checks, in this order:
//
//  1. the trust anchors hold a root of the fleet (identity.no-trust);
//  2. the device is manufactured (identity.missing), under the name that wardd
//     runs with (identity.key-mismatch);
//  3. there is a certificate for a reporting key (identity.missing), the
//     device's and the fleet's (identity.key-mismatch), not expired by a clock
//     with its floor (identity.expired);
//  4. the TPM gives the key (tpm.absent, tpm.failing, identity.other-tpm).
//
// What is damaged beside a generation that works is a condition of its own.
func (r *Role) look(ctx context.Context) error {
	err := r.lookAt(ctx)
	var f *Fault
	if errors.As(err, &f) {
		r.board.Set(ctx, board.AboutReporting, &f.Finding)
	} else {
		r.board.Clear(ctx, board.AboutReporting)
	}
	r.mu.Lock()
	r.fault = f
	if f != nil {
		r.current, r.turn = nil, 0
	}
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	return err
}

func (r *Role) lookAt(ctx context.Context) error {
	r.ready = false
	image, err := roots.Read(filepath.Join(r.config.Trust, "fleet"))
	if err != nil {
		return board.NewFault(finding.IdentityNoTrust, "%w", err)
	}
	damage := r.lookAtTrust(ctx, image)
	device, err := r.store.Device()
	reporting, err1 := r.store.Generations(enrolment.Reporting)
	service, err2 := r.store.Generations(enrolment.Service)
	if damage = errors.Join(damage, damaged(err), damaged(err1), damaged(err2)); damage != nil {
		r.board.Raise(ctx, board.AboutStore, finding.IdentityDamaged, "%s", oneLine(damage))
	} else {
		r.board.Clear(ctx, board.AboutStore)
	}
	if err != nil {
		return board.NewFault(finding.IdentityMissing, "read who the device is: %w: manufacture it", err)
	}
	if device.Tenant != r.config.Tenant || device.Serial != r.config.Device {
		return board.NewFault(finding.IdentityMismatch, "read who the device is: %s of %s, and wardd runs as %s of %s: restart wardd",
			device.Serial, device.Tenant, r.config.Device, r.config.Tenant)
	}
	r.ready = true
	r.lookAtSerial(ctx, device)
	r.lookAtService(ctx, service)
	return r.lookAtReporting(ctx, reporting)
}

// damaged passes on errors of files that are there and cannot be read.
func damaged(err error) error {
	if err == nil || errors.Is(err, idstore.ErrNone) {
		return nil
	}
	return err
}

func (r *Role) lookAtReporting(ctx context.Context, all []idstore.Generation) error {
	all = r.connected(all)
	var worst *Fault
	var found []usable
	for _, g := range all {
		if g.Chain == nil {
			continue
		}
		u, f := r.use(ctx, g, r.reporting)
		if f != nil {
			if worst == nil {
				worst = f
			}
			continue
		}
		found = append(found, u)
		if g.Connected {
			break // older ones are of no use
		}
	}
	r.reporting = found
	if len(found) == 0 {
		if worst == nil {
			worst = board.NewFault(finding.IdentityMissing, "look for a certificate of the reporting key in %s: there is none", filepath.Join(r.config.State, idstore.Folder))
		}
		return worst
	}
	r.lookAtOwn(ctx, found)
	r.offer(found)
	return nil
}

// lookAtService finds the service identity. That there is none is no fault.
func (r *Role) lookAtService(ctx context.Context, all []idstore.Generation) {
	var found []usable
	for _, g := range all {
		if g.Chain == nil {
			continue
		}
		if u, f := r.use(ctx, g, r.service); f == nil {
			found = append(found, u)
			break
		}
	}
	r.service = found
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.signing, enrolment.Service)
	if len(found) > 0 {
		r.signing[enrolment.Service] = found[0]
	}
}

// use judges a generation. One that was used before keeps its signer and its TLS
// settings, and with them the tickets of its sessions.
func (r *Role) use(ctx context.Context, g idstore.Generation, before []usable) (usable, *Fault) {
	u := usable{Generation: g}
	where := filepath.Join(r.config.State, g.Path())
	now := latest(r.now(), u.leaf().NotBefore)
	if now.After(u.leaf().NotAfter) {
		return u, board.NewFault(finding.IdentityExpired, "check certificate in %s: it expired on %s", where, u.leaf().NotAfter.UTC().Format(time.DateOnly))
	}
	signer, err := r.config.TPM.Signer(ctx, g.Use, g.Key)
	if err != nil {
		return u, keyFault(err)
	}
	terms := issued.Terms{Key: signer.Public(), Tenant: r.config.Tenant, Device: r.config.Device, Use: g.Use, Roots: r.trustNow().roots, Now: now}
	if err := issued.Check(g.Chain, terms); err != nil {
		return u, board.NewFault(finding.IdentityMismatch, "check certificate in %s: %w", where, err)
	}
	u.signer, u.trust = signer, r.trustNow().fingerprint
	for _, b := range before {
		if b.Number == g.Number && b.leaf().Equal(u.leaf()) && b.trust == u.trust {
			u.signer, u.tls = b.signer, b.tls
		}
	}
	if u.tls == nil && g.Use == enrolment.Reporting {
		u.tls = r.settings(&u)
	}
	return u, nil
}

func keyFault(err error) *Fault {
	switch {
	case errors.Is(err, tpm.ErrAbsent):
		return board.NewFault(finding.TPMAbsent, "%w", err)
	case errors.Is(err, tpm.ErrOtherTPM), errors.Is(err, tpm.ErrNoKey), errors.Is(err, tpm.ErrOccupied):
		return board.NewFault(finding.IdentityOtherTPM, "%w", err)
	}
	return board.NewFault(finding.TPMFailing, "%w", err)
}

// offer puts the identities up for the next connection: the newest first, and
// the last that is known to work behind it.
func (r *Role) offer(found []usable) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.current) == 0 || !r.current[0].leaf().Equal(found[0].leaf()) {
		r.turn, r.refused = 0, 0
	}
	r.current = found[:1]
	if last := found[len(found)-1]; len(found) > 1 && last.Connected {
		r.current = []usable{found[0], last}
	}
	r.turn %= len(r.current)
	r.signing[enrolment.Reporting] = found[0]
	for _, u := range r.current {
		if u.Connected {
			r.signing[enrolment.Reporting] = u
		}
	}
}

// connected stores what the uplink told: with which certificates a connection
// stood. Older keys go.
func (r *Role) connected(all []idstore.Generation) []idstore.Generation {
	r.mu.Lock()
	told := r.admitted
	r.admitted = nil
	r.mu.Unlock()
	for i, g := range all {
		if g.Chain == nil || g.Connected || !slices.ContainsFunc(told, func(raw []byte) bool { return bytes.Equal(raw, g.Chain[0].Raw) }) {
			continue
		}
		if err := r.store.SetConnected(g); err != nil {
			r.config.Log.Error("store that a connection stood", "error", err)
			continue
		}
		all[i].Connected = true
		if err := r.store.Prune(g.Use); err != nil {
			r.config.Log.Error("remove old keys", "error", err)
		}
		r.config.Log.Info("the new identity has connected", "generation", g.Number)
	}
	return all
}

// lookAtOwn says when the fleet's list names the device's own certificate, and
// when the list is old.
func (r *Role) lookAtOwn(ctx context.Context, found []usable) {
	list := r.trustNow().crl
	if list == nil {
		r.board.Clear(ctx, board.AboutOwn)
		return
	}
	for _, u := range found {
		if serverauth.Lists(list, u.leaf()) {
			r.board.Raise(ctx, board.AboutOwn, finding.IdentityRevoked, "certificate %x of generation %d is on the revocation list of %s",
				u.leaf().SerialNumber, u.Number, list.ThisUpdate.UTC().Format(time.DateOnly))
			return
		}
	}
	r.board.Clear(ctx, board.AboutOwn)
}

func oneLine(err error) string {
	return string(bytes.Join(bytes.Fields(fmt.Append(nil, err)), []byte(" ")))
}
