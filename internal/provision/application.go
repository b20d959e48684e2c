package provision

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
)

// signTimeout bounds one signature of a certification request.
const signTimeout = 10 * time.Second

// ErrNotProvisioned: the device has no record or no keys.
var ErrNotProvisioned = errors.New("the device was not provisioned: run wardctl provision")

// Left is a key for which no certificate is asked, and why.
type Left struct {
	Use enrolment.Use
	Err error
}

// Application says of this TPM what a registrar must know, and asks for
// certificates of the newest keys: of the reporting key always, of the service key
// if boot lets it sign, else what was left out is told. boot may be nil. It changes
// nothing.
func Application(ctx context.Context, chip *tpm.TPM, store *idstore.Store, boot *tpm.Boot) (enrolment.Application, []Left, error) {
	a, left, err := application(ctx, chip, store, boot)
	if err != nil {
		return enrolment.Application{}, nil, fmt.Errorf("make application: %w", err)
	}
	return a, left, nil
}

func application(ctx context.Context, chip *tpm.TPM, store *idstore.Store, boot *tpm.Boot) (enrolment.Application, []Left, error) {
	d, err := pinned(chip, store)
	if err != nil {
		return enrolment.Application{}, nil, err
	}
	ek, err := chip.Endorsement(ctx)
	if err != nil {
		return enrolment.Application{}, nil, err
	}
	ak, err := chip.ReadPublic(ctx, tpm.HandleAK)
	if errors.Is(err, tpm.ErrNoKey) {
		return enrolment.Application{}, nil, fmt.Errorf("%w: %w", ErrNotProvisioned, err)
	}
	if err != nil {
		return enrolment.Application{}, nil, err
	}
	a := enrolment.Application{Request: enrolment.Request{
		Version: enrolment.Version, Tenant: d.Tenant, Serial: d.Serial, AK: ak.Area,
		EK: enrolment.Endorsement{Certificate: ek.Certificate, Chain: ek.Chain},
	}}
	var left []Left
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		key, csr, err := apply(ctx, chip, store, d, use, boot)
		switch {
		case err == nil:
			a.Keys, a.CSRs = append(a.Keys, key), append(a.CSRs, csr)
		case use == enrolment.Service && !errors.Is(err, tpm.ErrOtherTPM):
			left = append(left, Left{use, err})
		default:
			return enrolment.Application{}, nil, fmt.Errorf("%s key: %w", use, err)
		}
	}
	return a, left, nil
}

// pinned reads who the device is, and fixes the TPM by what manufacture read.
func pinned(chip *tpm.TPM, store *idstore.Store) (idstore.Device, error) {
	d, err := store.Device()
	if errors.Is(err, idstore.ErrNone) {
		return d, ErrNotProvisioned
	}
	if err != nil {
		return d, err
	}
	return d, pin(chip, d)
}

func pin(chip *tpm.TPM, d idstore.Device) error {
	srk, err := tpm.Blob{Public: d.SRK}.Key()
	if err == nil {
		chip.Pin(srk)
	}
	return err
}

// apply has a key certified by the attestation key, and sign a request.
func apply(ctx context.Context, chip *tpm.TPM, store *idstore.Store, d idstore.Device, use enrolment.Use, boot *tpm.Boot) (enrolment.Key, []byte, error) {
	g, err := newest(store, use)
	if err != nil {
		return enrolment.Key{}, nil, err
	}
	blob := blobOf(g.Key)
	signer, err := signer(ctx, chip, g, boot)
	if err != nil {
		return enrolment.Key{}, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:            pkix.Name{CommonName: d.Serial, Organization: []string{d.Tenant}},
		SignatureAlgorithm: x509.ECDSAWithSHA256,
	}, signer)
	if err != nil {
		return enrolment.Key{}, nil, fmt.Errorf("sign certification request: %w", err)
	}
	c, err := chip.CertifyKey(ctx, blob)
	if err != nil {
		return enrolment.Key{}, nil, err
	}
	return enrolment.Key{Use: use, Public: blob.Public, Attest: c.Attest, Signature: c.Signature}, csr, nil
}

// newest is the newest whole key of a use.
func newest(store *idstore.Store, use enrolment.Use) (idstore.Generation, error) {
	all, err := store.Generations(use)
	if len(all) > 0 {
		return all[0], nil
	}
	if err == nil {
		err = ErrNotProvisioned
	}
	return idstore.Generation{}, err
}
