package identity

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"

	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
)

var (
	// errStore: the identity could not be written.
	errStore = errors.New("the identity cannot be stored")

	sha256Options = crypto.SHA256
)

// obtain has a certificate issued for a key: the one that waits for it, or a new
// one. Its steps can be cut short after any: the key that waits is used again,
// and what works is not touched before the new one has connected.
func (r *Role) obtain(ctx context.Context, use enrolment.Use, kind need) error {
	g, err := r.pending(ctx, use)
	if err != nil {
		return err
	}
	signer, err := r.config.TPM.Signer(ctx, use, g.Key)
	if err != nil {
		return err
	}
	// First, because a service key signs in an approved boot state only.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: r.config.Device, Organization: []string{r.config.Tenant}}, SignatureAlgorithm: x509.ECDSAWithSHA256,
	}, signer)
	if err != nil {
		if errors.Is(err, tpm.ErrOtherTPM) || errors.Is(err, tpm.ErrPolicy) {
			r.spoiled[g.Path()] = true // the key is of no use here: the next attempt makes another
		}
		return fmt.Errorf("sign certification request: %w", err)
	}
	ca, err := r.dial(kind)
	if err != nil {
		return err
	}
	defer ca.Close()
	chain, err := r.exchange(ctx, ca, g, csr, kind)
	if err != nil {
		return err
	}
	r.config.Alive()
	terms := issued.Terms{Key: signer.Public(), Tenant: r.config.Tenant, Device: r.config.Device, Use: use, Roots: r.trustNow().roots, Now: r.now()}
	if err := issued.Check(chain, terms); err != nil {
		return fmt.Errorf("%w: %w", issued.ErrProfile, err)
	}
	return r.keep(g, chain)
}

// keep stores what was issued. A service certificate has no connection to wait
// for: its key has just signed, in this boot state.
func (r *Role) keep(g idstore.Generation, chain []*x509.Certificate) error {
	var der [][]byte
	for _, c := range chain {
		der = append(der, c.Raw)
	}
	if err := r.store.SetChain(g, der); err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	if err := r.store.SetFloor(chain[0].NotBefore); err != nil {
		r.config.Log.Error("store the time that a certificate proves", "error", err)
	}
	if g.Use == enrolment.Service {
		if err := r.store.SetConnected(g); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
	}
	return nil
}

// pending finds the key that waits for a certificate, or makes one. The service
// key before the last goes at this moment, so that programs that use the files
// keep the last one until the next renewal.
func (r *Role) pending(ctx context.Context, use enrolment.Use) (idstore.Generation, error) {
	all, err := r.store.Generations(use)
	if err != nil && !errors.Is(err, idstore.ErrDamaged) {
		return idstore.Generation{}, fmt.Errorf("%w: %w", errStore, err)
	}
	if len(all) > 0 && all[0].Chain == nil && !r.spoiled[all[0].Path()] {
		return all[0], nil
	}
	if use == enrolment.Service {
		if err := r.store.Prune(use); err != nil {
			r.config.Log.Error("remove old keys", "error", err)
		}
	}
	key, err := r.config.TPM.Create(ctx, use)
	if err != nil {
		return idstore.Generation{}, err
	}
	g, err := r.store.Add(use, key)
	if err != nil {
		return idstore.Generation{}, fmt.Errorf("%w: %w", errStore, err)
	}
	return g, nil
}

// exchange is the conversation with the registrar: the challenge, which only this
// TPM can answer, and the certificate.
func (r *Role) exchange(ctx context.Context, ca CA, g idstore.Generation, csr []byte, kind need) ([]*x509.Certificate, error) {
	request, err := r.config.TPM.Describe(ctx, g.Use, g.Key)
	if err != nil {
		return nil, fmt.Errorf("describe the TPM: %w", err)
	}
	request.Version, request.Tenant, request.Serial = enrolment.Version, r.config.Tenant, r.config.Device
	challenge, err := ca.Challenge(ctx, request)
	if err != nil {
		return nil, err
	}
	r.config.Alive()
	secret, err := r.config.TPM.Activate(ctx, challenge.Credential)
	if err != nil {
		return nil, fmt.Errorf("answer the challenge: %w", err)
	}
	r.config.Alive()
	if kind == renew {
		return ca.Reenroll(ctx, csr, challenge.ID, secret)
	}
	return ca.Enroll(ctx, csr, challenge.ID, secret)
}

// dial makes a client of the registrar. A renewal shows the identity that is
// known to work; else the TPM alone speaks for the device.
func (r *Role) dial(kind need) (CA, error) {
	if r.config.Registrar == "" {
		return nil, ErrNoRegistrar
	}
	config := r.anonymous()
	if kind == renew {
		known := r.reporting[len(r.reporting)-1] // connected, or the only one
		config = known.tls.Clone()
		config.ClientSessionCache = nil
	}
	config.ServerName = r.config.ServerName
	return r.config.Dial(r.config.Registrar, config)
}
