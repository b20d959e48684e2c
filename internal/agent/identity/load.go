package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// maxFile bounds a certificate file; a chain of three takes some 3 KiB.
	maxFile = 64 << 10
	// maxRoots bounds the certificates of the trust anchors' folder.
	maxRoots = 32
)

// Fault is why there is no usable identity, as a finding.
type Fault struct {
	Finding finding.Finding
	Err     error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

func fault(code finding.Code, format string, args ...any) *Fault {
	err := fmt.Errorf(format, args...)
	return &Fault{Finding: finding.New(code, err.Error()), Err: err}
}

// Subject reads tenant and device id from the certificate in a state
// directory. It needs no TPM and proves nothing.
func Subject(state string) (tenant, device string, err error) {
	chain, err := readChain(filepath.Join(state, CertificateFile))
	if err != nil {
		return "", "", err
	}
	return subject(chain[0])
}

// Load looks at everything that an identity needs. Its error is always a
// *Fault. It checks, in this order:
//
//  1. the certificate is there and can be parsed (identity.missing);
//  2. its subject names one tenant and one device (identity.missing), those
//     of the configuration (identity.key-mismatch);
//  3. the TPM gives the reporting key (tpm.absent, tpm.failing, identity.missing);
//  4. the certificate is for that key (identity.key-mismatch);
//  5. it has not expired (identity.expired), by a clock that is never believed
//     to be earlier than the build or the certificate's own begin;
//  6. the trust anchors hold a root of the fleet (identity.no-trust).
func Load(ctx context.Context, c Config, now time.Time) (*Identity, error) {
	path := filepath.Join(c.State, CertificateFile)
	chain, err := readChain(path)
	if err != nil {
		return nil, fault(finding.IdentityMissing, "%w", err)
	}
	leaf := chain[0]
	tenant, device, err := subject(leaf)
	if err != nil {
		return nil, fault(finding.IdentityMissing, "read certificate %s: %w", path, err)
	}
	if tenant != c.Tenant || device != c.Device {
		return nil, fault(finding.IdentityMismatch, "read certificate %s: it names %s of %s, and wardd runs as %s of %s: restart wardd if the device was enrolled anew",
			path, device, tenant, c.Device, c.Tenant)
	}
	key, err := c.Keys.ReportingKey(ctx)
	if err != nil {
		return nil, keyFault(err)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, fault(finding.IdentityMismatch, "compare keys: the certificate %s is for another key than the TPM's reporting key", path)
	}
	floor := leaf.NotBefore
	if c.Floor != nil {
		floor = latest(c.Floor(), floor)
	}
	if t := latest(now, floor); t.After(leaf.NotAfter) {
		return nil, fault(finding.IdentityExpired, "check certificate %s: it expired on %s", path, leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	roots, err := readRoots(filepath.Join(c.Trust, "fleet"))
	if err != nil {
		return nil, fault(finding.IdentityNoTrust, "%w", err)
	}
	cert := tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return &Identity{
		Tenant: tenant, Device: device, NotAfter: leaf.NotAfter,
		TLS: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{cert},
			RootCAs:      roots,
			Time:         func() time.Time { return latest(time.Now(), floor) },
		},
	}, nil
}

func keyFault(err error) *Fault {
	switch {
	case errors.Is(err, tpm.ErrAbsent):
		return fault(finding.TPMAbsent, "%w", err)
	case errors.Is(err, tpm.ErrNoKey), errors.Is(err, tpm.ErrOccupied):
		return fault(finding.IdentityMissing, "%w", err)
	}
	return fault(finding.TPMFailing, "%w", err)
}

// readChain reads PEM certificates, leaf first.
func readChain(path string) ([]*x509.Certificate, error) {
	certs, err := readCertificates(path, 8)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("read certificate %s: no certificate in it", path)
	}
	return certs, nil
}

func readRoots(dir string) (*x509.CertPool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("read fleet roots: %w", err)
	}
	pool, n := x509.NewCertPool(), 0
	for _, f := range files {
		certs, err := readCertificates(f, maxRoots)
		if err != nil {
			return nil, fmt.Errorf("read fleet roots: %w", err)
		}
		for _, c := range certs {
			pool.AddCert(c)
			n++
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("read fleet roots: no certificate in %s", filepath.Join(dir, "*.pem"))
	}
	if n > maxRoots {
		return nil, fmt.Errorf("read fleet roots: %d certificates in %s, at most %d are taken", n, dir, maxRoots)
	}
	return pool, nil
}

func readCertificates(path string, most int) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read certificate %s: there is none", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("read certificate %s: more than %d bytes", path, maxFile)
	}
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("read certificate %s: want PEM of type CERTIFICATE and nothing else", path)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate %s: certificate %d: %w", path, len(certs)+1, err)
		}
		if len(certs) == most {
			return nil, fmt.Errorf("read certificate %s: more than %d certificates", path, most)
		}
		certs = append(certs, cert)
		text = rest
	}
	return certs, nil
}

func subject(leaf *x509.Certificate) (tenant, device string, err error) {
	if len(leaf.Subject.Organization) != 1 {
		return "", "", fmt.Errorf("parse subject: %d organisations, want one, the tenant", len(leaf.Subject.Organization))
	}
	tenant, device = leaf.Subject.Organization[0], leaf.Subject.CommonName
	if err := event.CheckName(tenant); err != nil {
		return "", "", fmt.Errorf("parse subject: tenant: %w", err)
	}
	if err := event.CheckName(device); err != nil {
		return "", "", fmt.Errorf("parse subject: device id: %w", err)
	}
	return tenant, device, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
