// Package serverauth judges the certificate of a server of the fleet beyond what
// a TLS library does by itself, and names the one cause of every refusal (RFC
// 5280, sections 4.2.1.12, 5 and 6; RFC 8446, section 4.2.1). The fleet's own
// roots alone are believed, never the system's; keys and signatures that can be
// forged are refused; the fleet's revocation list counts. Nothing falls back to
// less.
package serverauth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// minRSA is the shortest RSA key that is taken, in bits (NIST SP 800-131A).
	minRSA = 2048
	// maxChain bounds the certificates of a chain: a leaf, two authorities, a
	// root, and room for a crossed one.
	maxChain = 8
)

// What Check refuses beside what crypto/x509 names itself.
var (
	ErrNoChain      = errors.New("the server shows no certificate")
	ErrWeakKey      = errors.New("the key is too weak: want RSA of at least 2048 bits, P-256 or P-384")
	ErrWeakSign     = errors.New("the certificate is signed with SHA-1 or MD5")
	ErrRevoked      = errors.New("the certificate was revoked")
	ErrCRLSignature = errors.New("the revocation list is not signed by the authority that it names")
	ErrCRLStale     = errors.New("the revocation list is out of date")
)

// Policy is what a server is judged by.
type Policy struct {
	Roots []*x509.Certificate
	Name  string // that the certificate must carry
	// CRLs are the revocation lists that are known. Certificates of an authority
	// without a list are not looked up.
	CRLs []*x509.RevocationList
	Now  time.Time // with its floor
	// CRLGrace is how long a list counts after its next update. Zero: for ever,
	// which is the device's policy, since refusing would silence it: an old list is
	// a finding of its own (Stale), and no reason to refuse. With a grace, a list
	// that is older makes Check fail with ErrCRLStale.
	CRLGrace time.Duration
}

// Check judges a server by the certificates that it showed, leaf first:
//
//  1. there is a chain, of at most eight certificates (ErrNoChain);
//  2. it leads to a root of the policy, in time, for the name, for a server
//     (errors of crypto/x509);
//  3. no key in it is weak (ErrWeakKey), nothing below the root signed with a
//     broken hash (ErrWeakSign);
//  4. a list that the policy has for an authority in it is that authority's
//     (ErrCRLSignature) and not out of date beyond the grace (ErrCRLStale);
//  5. no list names a certificate in it (ErrRevoked).
//
// One chain that passes is enough, as with two roots at once. For use in
// tls.Config.VerifyConnection, beside the library's own verification.
func Check(chain []*x509.Certificate, p Policy) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("check server: %w, or more than %d", ErrNoChain, maxChain)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, r := range p.Roots {
		roots.AddCert(r)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	found, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: p.Now, Intermediates: between, DNSName: p.Name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("check server: %w", weaker(chain, err))
	}
	for _, c := range found {
		if err = p.checkOne(c); err == nil {
			return nil
		}
	}
	return fmt.Errorf("check server: %w", err)
}

// weaker says that a chain fails for its signatures where the library only says
// that it knows no authority.
func weaker(chain []*x509.Certificate, err error) error {
	if authority := (x509.UnknownAuthorityError{}); errors.As(err, &authority) {
		for _, c := range chain {
			if brokenHash(c) && !selfSigned(c) {
				return fmt.Errorf("%s: %w", c.Subject, ErrWeakSign)
			}
		}
	}
	return err
}

func (p Policy) checkOne(chain []*x509.Certificate) error {
	for i, c := range chain {
		if err := strong(c); err != nil {
			return err
		}
		if i == len(chain)-1 {
			continue // the root is trusted for its key, not for its signature
		}
		if brokenHash(c) {
			return fmt.Errorf("%s: %w", c.Subject, ErrWeakSign)
		}
		if err := p.revoked(c, chain[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (p Policy) revoked(c, issuer *x509.Certificate) error {
	for _, list := range p.CRLs {
		if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
			continue
		}
		if err := list.CheckSignatureFrom(issuer); err != nil {
			if p.signedByRoot(list) {
				continue // of a root with the same name and another key, as at a change of roots
			}
			return fmt.Errorf("%s: %w: %w", issuer.Subject, ErrCRLSignature, err)
		}
		if p.CRLGrace > 0 && !list.NextUpdate.IsZero() && p.Now.After(list.NextUpdate.Add(p.CRLGrace)) {
			return fmt.Errorf("%s: %w: its next update was due on %s", issuer.Subject, ErrCRLStale, list.NextUpdate.UTC().Format(time.DateOnly))
		}
		if Lists(list, c) {
			return fmt.Errorf("%s: %w", c.Subject, ErrRevoked)
		}
	}
	return nil
}

func (p Policy) signedByRoot(list *x509.RevocationList) bool {
	return slices.ContainsFunc(p.Roots, func(r *x509.Certificate) bool {
		return bytes.Equal(list.RawIssuer, r.RawSubject) && list.CheckSignatureFrom(r) == nil
	})
}

// Lists says whether a list names a certificate of its issuer.
func Lists(list *x509.RevocationList, c *x509.Certificate) bool {
	if !bytes.Equal(list.RawIssuer, c.RawIssuer) {
		return false
	}
	for _, e := range list.RevokedCertificateEntries {
		// 8 is removeFromCRL (RFC 5280, section 5.3.1): a hold that has ended.
		if e.SerialNumber != nil && c.SerialNumber != nil && e.SerialNumber.Cmp(c.SerialNumber) == 0 && e.ReasonCode != 8 {
			return true
		}
	}
	return false
}

// strong refuses keys that can be forged.
func strong(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSA {
			return nil
		}
		return fmt.Errorf("%s: %w: RSA of %d bits", c.Subject, ErrWeakKey, k.N.BitLen())
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("%s: %w: curve %s", c.Subject, ErrWeakKey, k.Curve.Params().Name)
	}
	return fmt.Errorf("%s: %w: %s", c.Subject, ErrWeakKey, c.PublicKeyAlgorithm)
}

func brokenHash(c *x509.Certificate) bool {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }
