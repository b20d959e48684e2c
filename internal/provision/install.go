package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/serverauth"
)

// accepted is a certificate that was checked, with the key that it is for.
type accepted struct {
	generation idstore.Generation
	chain      [][]byte
	leaf       *x509.Certificate
	above      []*x509.Certificate
}

// Install takes a registrar's answer. It is opened by this TPM and checked whole
// before anything is stored: that it is for this device, each certificate for a
// key of the store, its use, and a chain to the fleet's roots; the revocation list
// signed by one of the authorities. An answer for another TPM gives
// enrolment.ErrOtherTPM, one for another device ErrOtherDevice, a certificate
// that was not asked for issued.ErrProfile. A refused answer changes nothing.
func Install(ctx context.Context, chip *tpm.TPM, store *idstore.Store, answer enrolment.Answer, roots []*x509.Certificate, now time.Time) error {
	if err := install(ctx, chip, store, answer, roots, now); err != nil {
		return fmt.Errorf("install answer: %w", err)
	}
	return nil
}

func install(ctx context.Context, chip *tpm.TPM, store *idstore.Store, answer enrolment.Answer, roots []*x509.Certificate, now time.Time) error {
	d, err := pinned(chip, store)
	if err != nil {
		return err
	}
	if answer.Tenant != d.Tenant || answer.Device != d.Serial {
		return fmt.Errorf("%w: the answer is for %s of %s, this is %s of %s", ErrOtherDevice, answer.Device, answer.Tenant, d.Serial, d.Tenant)
	}
	ek, err := chip.Endorsement(ctx)
	if err != nil {
		return err
	}
	secret, err := chip.Activate(ctx, ek, tpm.HandleAK, answer.Credential)
	if errors.Is(err, tpm.ErrCredential) {
		return fmt.Errorf("%w: %w", enrolment.ErrOtherTPM, err)
	}
	if err != nil {
		return err
	}
	given, err := answer.Open(secret)
	if err != nil {
		return err
	}
	if floor, err := store.Floor(); err == nil && floor.After(now) {
		now = floor
	}
	var all []accepted
	for use, chain := range given.Chains {
		a, err := accept(store, d, use, chain, roots, now)
		if err != nil {
			return fmt.Errorf("%s certificate: %w", use, err)
		}
		all = append(all, a)
	}
	crl, err := newer(store, given.CRL, all, roots)
	if err != nil {
		return err
	}
	return keep(store, all, crl)
}

// accept finds the key of a certificate and judges the chain.
func accept(store *idstore.Store, d idstore.Device, use enrolment.Use, chain [][]byte, roots []*x509.Certificate, now time.Time) (accepted, error) {
	var certs []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return accepted{}, fmt.Errorf("%w: %w", issued.ErrProfile, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return accepted{}, fmt.Errorf("%w: there is none", issued.ErrProfile)
	}
	generations, err := store.Generations(use)
	if err != nil && len(generations) == 0 {
		return accepted{}, err
	}
	for _, g := range generations {
		key, err := blobOf(g.Key).Key()
		if err != nil {
			return accepted{}, err
		}
		if !key.Public.Equal(certs[0].PublicKey) {
			continue
		}
		err = issued.Check(certs, issued.Terms{Key: key.Public, Tenant: d.Tenant, Device: d.Serial, Use: use, Roots: roots, Now: now})
		return accepted{g, chain, certs[0], certs[1:]}, err
	}
	return accepted{}, fmt.Errorf("%w: it is for no key of this device", issued.ErrProfile)
}

// newer wants the list to be signed by an authority of the fleet. One that is
// older than the store's is not taken, and no reason to refuse the rest: answers
// travel slowly.
func newer(store *idstore.Store, der []byte, all []accepted, roots []*x509.Certificate) ([]byte, error) {
	if len(der) == 0 {
		return nil, nil
	}
	issuers := slices.Clone(roots)
	for _, a := range all {
		issuers = append(issuers, a.above...)
	}
	list, err := serverauth.ParseCRL(der, issuers)
	if err != nil {
		return nil, err
	}
	if known, err := store.CRL(); err == nil {
		if before, err := x509.ParseRevocationList(known); err == nil && serverauth.Newer(list, before) != nil {
			return nil, nil
		}
	}
	return der, nil
}

// keep stores what was checked. The service certificate has no connection to wait
// for; the moment at which the first certificate begins has passed.
func keep(store *idstore.Store, all []accepted, crl []byte) error {
	for _, a := range all {
		if err := store.SetChain(a.generation, a.chain); err != nil {
			return err
		}
		if a.generation.Use == enrolment.Service {
			if err := store.SetConnected(a.generation); err != nil {
				return err
			}
		}
		if err := store.SetFloor(a.leaf.NotBefore); err != nil {
			return err
		}
	}
	if len(crl) == 0 {
		return nil
	}
	return store.SetCRL(crl)
}
