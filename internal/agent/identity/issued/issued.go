// Package issued looks at certificates of the device before they are stored and
// when they are read: a certificate that is not for this key, this device and
// this use is of no use, whoever issued it (RFC 5280; the profiles of blueprint,
// section 8).
package issued

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"ward/internal/trust/enrolment"
)

// Bounds of a certificate's lifetime. Below the first it would expire before it
// is used; above the second it is a mistake at the fleet.
const (
	shortest = 10 * time.Second
	longest  = 25 * 366 * 24 * time.Hour
	maxChain = 8
)

// ErrProfile: not a certificate that this device asked for.
var ErrProfile = errors.New("not the certificate that was asked for")

// Terms are what a chain is judged by.
type Terms struct {
	Key            crypto.PublicKey
	Tenant, Device string
	Use            enrolment.Use
	Roots          []*x509.Certificate
	Now            time.Time // with its floor
}

// URI is the name of a device in the certificate of a use.
func URI(tenant, device string, use enrolment.Use) string {
	uri := "urn:ward:" + tenant + ":" + device
	if use == enrolment.Service {
		uri += ":service"
	}
	return uri
}

// Check judges a chain, leaf first:
//
//  1. it is for the key;
//  2. its subject and its one URI are the device's, for the use;
//  3. it is for a client and nothing else, and no authority;
//  4. its lifetime is one, and has not ended;
//  5. it leads to a root of the fleet.
func Check(chain []*x509.Certificate, t Terms) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("check certificate: %w: %d certificates", ErrProfile, len(chain))
	}
	leaf := chain[0]
	if key, ok := t.Key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(leaf.PublicKey) {
		return fmt.Errorf("check certificate: %w: it is for another key", ErrProfile)
	}
	if err := named(leaf, t); err != nil {
		return fmt.Errorf("check certificate: %w: %w", ErrProfile, err)
	}
	if leaf.IsCA || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(leaf.UnknownExtKeyUsage) > 0 {
		return fmt.Errorf("check certificate: %w: it is not for a client alone", ErrProfile)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < shortest || life > longest {
		return fmt.Errorf("check certificate: %w: it lasts %s", ErrProfile, life)
	}
	// A certificate that begins later than the clock proves that the clock is late.
	now := t.Now
	if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, r := range t.Roots {
		roots.AddCert(r)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return fmt.Errorf("check certificate: %w", err)
	}
	return nil
}

// named says whether a certificate names the device.
func named(leaf *x509.Certificate, t Terms) error {
	if leaf.Subject.CommonName != t.Device || !slices.Equal(leaf.Subject.Organization, []string{t.Tenant}) {
		return fmt.Errorf("it names %q of %q, want %s of %s", leaf.Subject.CommonName, leaf.Subject.Organization, t.Device, t.Tenant)
	}
	want := URI(t.Tenant, t.Device, t.Use)
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != want {
		return fmt.Errorf("its names are %v, want %s", leaf.URIs, want)
	}
	return nil
}
