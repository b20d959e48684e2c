// Package provision is what a production line does to a device's TPM and state
// partition, and what undoes it: keys, counters, ownership, sealed volume keys;
// enrolment by files where there is no network; and the farewell (TCG TPM v2.0
// Provisioning Guidance, sections 3 to 7; TCG EK Credential Profile for TPM Family
// 2.0). docs/manufacture.md has the sequence for a line.
package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
)

// journalAuth names the authorisation value of the journal's counters in the
// identity store.
const journalAuth = "journal"

var (
	// ErrOtherDevice: the state is of another device, or of another TPM.
	ErrOtherDevice = errors.New("this state belongs to another device")
	// ErrName: the tenant or the serial number cannot stand in a topic.
	ErrName = errors.New("not a name that a device can have")
	// ErrVault: the vault file is not of this device, or is none.
	ErrVault = errors.New("the vault file is not of this device")
)

// Names of the steps.
const (
	StepCheck     = "check"
	StepKeys      = "keys"
	StepEK        = "endorsement key"
	StepRollback  = "rollback counter"
	StepJournal   = "journal counters"
	StepReporting = "reporting key"
	StepService   = "service key"
	StepDevice    = "device record"
	StepOwner     = "ownership"
)

// Options say what a device is to be.
type Options struct {
	Tenant, Serial string
	// PolicyKey is whose approvals open what is bound to the boot state. Nil: no
	// rollback counter and no service key are made.
	PolicyKey *policy.Key
	Base      uint64 // what the rollback counter is stepped to
	// Vault are the TPM's authorisations from an earlier run. Nil: it has none.
	Vault *Vault
	// Keep writes new authorisations to the factory's vault and returns when they
	// are durable. It is called before the TPM is given them.
	Keep func(Vault) error
	Now  time.Time
	// Progress, if set, is told of every step when it has ended.
	Progress func(Step)
}

// Step is one step of manufacture.
type Step struct {
	Name string
	Took time.Duration
	Note string // what the line should know; empty as a rule
}

// Result is what manufacture made.
type Result struct {
	Keys    tpm.Keys
	EK      string // SHA-256 of the endorsement key's SubjectPublicKeyInfo, base 16; empty: the TPM has no certificate of it
	Vault   Vault
	Steps   []Step
	Uses    map[enrolment.Use]idstore.Generation // the newest keys
	Counter uint64                               // the rollback counter's value; 0: there is none
}

// run is one run of manufacture.
type run struct {
	Options
	chip   *tpm.TPM
	store  *idstore.Store
	status tpm.Status
	device *idstore.Device // nil: it has no record yet
	result Result
}

// Run manufactures a device. Each step does what is missing and leaves what is
// there, so that it can be repeated after it was cut off at any point. Refused
// before anything is made: a TPM that has an owner whose values are not given
// (tpm.ErrOwned), a state of another device or TPM (ErrOtherDevice). Refused when
// it is met: a TPM whose counters are ahead (tpm.ErrCounterAhead), others' objects
// at Ward's handles (tpm.ErrOccupied). Ownership is taken last.
func Run(ctx context.Context, chip *tpm.TPM, store *idstore.Store, o Options) (Result, error) {
	r := &run{Options: o, chip: chip, store: store, result: Result{Uses: make(map[enrolment.Use]idstore.Generation)}}
	for _, s := range []struct {
		name string
		do   func(context.Context) (note string, err error)
	}{
		{StepCheck, r.check}, {StepKeys, r.keys}, {StepEK, r.endorsement}, {StepRollback, r.rollback}, {StepJournal, r.journal},
		{StepReporting, r.reporting}, {StepService, r.service}, {StepDevice, r.record}, {StepOwner, r.own},
	} {
		begun := time.Now()
		if err := ctx.Err(); err != nil {
			return r.result, fmt.Errorf("%s: %w", s.name, err)
		}
		note, err := s.do(ctx)
		if err != nil {
			return r.result, fmt.Errorf("%s: %w", s.name, err)
		}
		step := Step{Name: s.name, Took: time.Since(begun), Note: note}
		r.result.Steps = append(r.result.Steps, step)
		if o.Progress != nil {
			o.Progress(step)
		}
	}
	return r.result, nil
}

// check looks at everything that refuses the whole.
func (r *run) check(ctx context.Context) (string, error) {
	if err := event.CheckName(r.Tenant); err != nil {
		return "", fmt.Errorf("tenant %.80q: %w: %w", r.Tenant, ErrName, err)
	}
	if err := event.CheckName(r.Serial); err != nil {
		return "", fmt.Errorf("serial number %.80q: %w: %w", r.Serial, ErrName, err)
	}
	if v := r.Vault; v != nil && (v.Tenant != r.Tenant || v.Serial != r.Serial) {
		return "", fmt.Errorf("%w: it is of %s of %s", ErrVault, v.Serial, v.Tenant)
	}
	var err error
	if r.status, err = r.chip.Status(ctx); err != nil {
		return "", err
	}
	if err := r.authorize(ctx); err != nil {
		return "", err
	}
	d, err := r.store.Device()
	if errors.Is(err, idstore.ErrNone) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if d.Tenant != r.Tenant || d.Serial != r.Serial {
		return "", fmt.Errorf("%w: %s of %s: decommission it first (wardctl decommission)", ErrOtherDevice, d.Serial, d.Tenant)
	}
	r.device = &d
	srk, err := r.chip.ReadPublic(ctx, tpm.HandleSRK)
	if errors.Is(err, tpm.ErrNoKey) || err == nil && !bytes.Equal(srk.Area, d.SRK) {
		return "", fmt.Errorf("%w: it was made with another TPM, or the TPM was cleared: decommission it first (wardctl decommission), then provision anew", ErrOtherDevice)
	}
	return "", err
}

// authorize uses the values of an earlier run, if the TPM has them by now.
func (r *run) authorize(ctx context.Context) error {
	if !r.status.OwnerSet && !r.status.LockoutSet {
		return nil
	}
	if r.Vault == nil {
		return fmt.Errorf("%w: give the vault file of the run that took it, or clear the TPM in the firmware set-up", tpm.ErrOwned)
	}
	if !r.status.OwnerSet {
		return nil // cut off between lockout and owner
	}
	owner, _, err := r.Vault.values()
	if err != nil {
		return err
	}
	if err := r.chip.Authorize(tpm.Authorizations{Owner: owner}); err != nil {
		return err
	}
	if err := r.chip.ProveOwner(ctx); err != nil {
		return fmt.Errorf("the vault file's value is not the TPM's: %w", err)
	}
	return nil
}

func (r *run) keys(ctx context.Context) (string, error) {
	var err error
	if r.result.Keys, err = r.chip.ProvisionKeys(ctx); err != nil {
		return "", err
	}
	r.chip.Pin(r.result.Keys.SRK)
	return "", nil
}

func (r *run) endorsement(ctx context.Context) (string, error) {
	ek, err := r.chip.Endorsement(ctx)
	if errors.Is(err, tpm.ErrNoCertificate) {
		return "its maker stored no certificate in this TPM: no registrar can enrol the device", nil
	}
	if err != nil {
		return "", err
	}
	spki, err := x509.MarshalPKIXPublicKey(ek.Public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(spki)
	r.result.EK = hex.EncodeToString(sum[:])
	return "", nil
}

// noPolicyKey is the note of steps that need one.
const noPolicyKey = "not made: no policy key was given"

func (r *run) rollback(ctx context.Context) (string, error) {
	if r.PolicyKey == nil {
		return noPolicyKey, nil
	}
	err := r.chip.DefineRollback(ctx, *r.PolicyKey, r.Base)
	if errors.Is(err, tpm.ErrCounterAhead) {
		return "", fmt.Errorf("%w: this TPM was used before and cannot be taken for a device with the base %d", err, r.Base)
	}
	if err != nil {
		return "", err
	}
	r.result.Counter, err = r.chip.ReadCounter(ctx, policy.RollbackCounter(*r.PolicyKey), nil)
	return "", err
}

// journal makes the two counters. Their value is stored first: a counter whose
// value is lost could be neither stepped nor removed without the owner.
func (r *run) journal(ctx context.Context) (string, error) {
	value, err := r.store.Auth(journalAuth)
	if errors.Is(err, idstore.ErrNone) {
		value = tpm.NewAuth()
		err = r.store.SetAuth(journalAuth, value)
	}
	if err != nil {
		return "", err
	}
	for _, durable := range []bool{false, true} {
		index := tpm.JournalCounter(durable)
		if err := r.chip.DefineNV(ctx, index, value); err != nil {
			return "", err
		}
		_, err := r.chip.ReadCounter(ctx, index, value)
		if errors.Is(err, tpm.ErrNeverWritten) {
			_, err = r.chip.Increment(ctx, index, value)
		}
		if errors.Is(err, tpm.ErrAuthorization) {
			return "", fmt.Errorf("%w: index 0x%08x was made in an earlier life of this TPM, and its value is lost: clear the TPM in the firmware set-up", err, index.Handle)
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

func (r *run) reporting(ctx context.Context) (string, error) {
	return "", r.key(ctx, enrolment.Reporting, nil)
}

func (r *run) service(ctx context.Context) (string, error) {
	if r.PolicyKey == nil {
		return noPolicyKey, nil
	}
	boot := policy.BootPolicy(*r.PolicyKey)
	return "", r.key(ctx, enrolment.Service, &boot)
}

// key makes the first generation of a key, or checks that the newest one is of
// this TPM and has the policy.
func (r *run) key(ctx context.Context, use enrolment.Use, boot *policy.Digest) error {
	all, err := r.store.Generations(use)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		r.result.Uses[use] = all[0]
		if err := hasPolicy(all[0].Key, boot); err != nil {
			return fmt.Errorf("generation %d: %w", all[0].Number, err)
		}
		if _, err := r.chip.CertifyKey(ctx, blobOf(all[0].Key)); err != nil {
			return fmt.Errorf("generation %d: %w", all[0].Number, err)
		}
		return nil
	}
	blob, err := r.chip.CreateKey(ctx, boot)
	if err != nil {
		return err
	}
	g, err := r.store.Add(use, keyFile(blob))
	if err == nil {
		r.result.Uses[use] = g
	}
	return err
}

func (r *run) record(context.Context) (string, error) {
	if r.device != nil {
		return "", nil
	}
	return "", r.store.SetDevice(idstore.Device{Tenant: r.Tenant, Serial: r.Serial, SRK: r.result.Keys.SRK.Area, Made: r.Now})
}

// own gives the TPM its owner. The values are in the vault before.
func (r *run) own(ctx context.Context) (string, error) {
	v := r.Vault
	if v == nil {
		made := newVault(r.Tenant, r.Serial, r.result.EK, r.Now)
		if err := r.Keep(made); err != nil {
			return "", fmt.Errorf("keep the values in the vault: %w", err)
		}
		v = &made
	}
	r.result.Vault = *v
	owner, lockout, err := v.values()
	if err != nil {
		return "", err
	}
	switch {
	case r.status.OwnerSet:
		return "", nil
	case r.status.LockoutSet:
		return "", r.chip.CompleteOwnership(ctx, owner)
	}
	return "", r.chip.TakeOwnership(ctx, owner, lockout)
}
