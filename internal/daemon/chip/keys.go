// Package chip is the TPM as the roles use it: the keys of the identity, and the
// counters of the journal.
package chip

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/agent/identity/idstore"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/lazykeys"
	"ward/internal/format/dsse"
	"ward/internal/format/tss2"
	"ward/internal/trust/credential"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
)

// signTimeout bounds one signature with the waiting for other commands; a service
// key takes some dozen commands.
const signTimeout = 15 * time.Second

// Keys are the keys of the identity in the TPM.
type Keys struct {
	Chip  *tpm.Lazy
	Store *idstore.Store
	Trust string // the folder of the trust anchors
	// Approvals are what the policy key signed for the release that runs.
	Approvals func(policy.Key) ([]policy.Approval, error)

	mu sync.Mutex
	ek *tpm.Endorsement // an RSA key takes some TPMs half a minute
}

func (k *Keys) keys() lazykeys.Keys { return lazykeys.Keys{Lazy: k.Chip} }

// policyKey is the policy key of the trust anchors.
func (k *Keys) policyKey() (policy.Key, error) {
	key, err := anchors.PolicyKey(filepath.Join(k.Trust, "policy"))
	if errors.Is(err, fs.ErrNotExist) {
		return key, fmt.Errorf("%w: %w", identity.ErrNoPolicy, err)
	}
	return key, err
}

// Create makes a key for a use and gives its file.
func (k *Keys) Create(ctx context.Context, use enrolment.Use) (tss2.File, error) {
	var boot *policy.Digest
	if use == enrolment.Service {
		key, err := k.policyKey()
		if err != nil {
			return tss2.File{}, err
		}
		digest := policy.BootPolicy(key)
		boot = &digest
	}
	blob, err := k.keys().CreateKey(ctx, boot)
	if err != nil {
		return tss2.File{}, err
	}
	return tss2.File{Kind: tss2.Loadable, EmptyAuth: boot == nil, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private}, nil
}

// Describe is the request to enrol a key: who vouches for the TPM, and its statement about the key.
func (k *Keys) Describe(ctx context.Context, use enrolment.Use, key tss2.File) (enrolment.Request, error) {
	ek, err := k.endorsement(ctx)
	if err != nil {
		return enrolment.Request{}, err
	}
	ak, err := tpm.With(k.Chip, func(t *tpm.TPM) (tpm.Key, error) { return t.ReadPublic(ctx, tpm.HandleAK) })
	if err != nil {
		return enrolment.Request{}, err
	}
	c, err := k.keys().CertifyKey(ctx, tpm.Blob{Public: key.Public, Private: key.Private})
	if err != nil {
		return enrolment.Request{}, err
	}
	return enrolment.Request{
		EK: enrolment.Endorsement{Certificate: ek.Certificate, Chain: ek.Chain}, AK: ak.Area,
		Keys: []enrolment.Key{{Use: use, Public: key.Public, Attest: c.Attest, Signature: c.Signature}},
	}, nil
}

func (k *Keys) endorsement(ctx context.Context) (tpm.Endorsement, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ek != nil {
		return *k.ek, nil
	}
	ek, err := k.keys().Endorsement(ctx)
	if err == nil {
		k.ek = &ek
	}
	return ek, err
}

// Activate answers a credential that was made for this TPM.
func (k *Keys) Activate(ctx context.Context, blob credential.Blob) ([]byte, error) {
	ek, err := k.endorsement(ctx)
	if err != nil {
		return nil, err
	}
	secret, err := k.keys().Activate(ctx, ek, blob)
	if err != nil {
		k.mu.Lock()
		k.ek = nil // it may be another TPM's by now
		k.mu.Unlock()
	}
	return secret, err
}

// Signer signs with a key of the identity, if the TPM is the one of manufacture.
func (k *Keys) Signer(ctx context.Context, use enrolment.Use, key tss2.File) (crypto.Signer, error) {
	device, err := k.Store.Device()
	if err != nil {
		return nil, err
	}
	if err := k.keys().Is(ctx, device.SRK); err != nil {
		return nil, err
	}
	var boot func() tpm.Boot
	if use == enrolment.Service {
		boot = k.approved
	}
	return k.keys().KeySigner(tpm.Blob{Public: key.Public, Private: key.Private}, boot, signTimeout)
}

// approved is what opens keys that are bound to the boot state: the policy key of
// the trust anchors, and what it signed for the release that runs. Without either
// no approval fits.
func (k *Keys) approved() tpm.Boot {
	key, err := k.policyKey()
	if err != nil {
		return tpm.Boot{}
	}
	approvals, err := k.Approvals(key)
	if err != nil {
		return tpm.Boot{Key: key}
	}
	return tpm.Boot{Key: key, Approvals: approvals}
}

// ApprovalsOf reads the approvals of a release manifest. Each carries the policy
// key's own signature, which the TPM verifies: they count before the boot was
// appraised, and whatever the manifest's other signatures are worth.
func ApprovalsOf(manifest string) func(policy.Key) ([]policy.Approval, error) {
	return func(key policy.Key) ([]policy.Approval, error) {
		envelope, err := anchors.Read(manifest, dsse.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("read release manifest: %w", err)
		}
		p, err := release.ParseUntrustedIdentityPolicy(envelope, key)
		if err != nil || p == nil {
			return nil, err
		}
		return p.Approvals, nil
	}
}
