package issue

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"ward/internal/trust/enrolment"
)

const (
	// DefaultLifetime is that of a device's certificate, MinLifetime the shortest:
	// a test's.
	DefaultLifetime = 365 * 24 * time.Hour
	MinLifetime     = 30 * time.Second
	// skew is how far a device's clock may be behind.
	skew = 5 * time.Minute
	// serialBits is the size of a random serial number.
	serialBits = 120
)

// CA is an authority whose key lies in a file.
type CA struct {
	key      crypto.Signer
	cert     *x509.Certificate
	above    []*x509.Certificate // between the CA and the root, the CA first; empty when it is the root
	lifetime time.Duration
	crlURL   string
}

// LoadCA reads the authority's certificate, with those above it, and its key,
// PEM. crlURL is where devices and brokers find the revocation list; it may be
// empty.
func LoadCA(certFile, keyFile string, lifetime time.Duration, crlURL string) (*CA, error) {
	certs, err := LoadCertificates(certFile)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, err
	}
	c := &CA{key: key, cert: certs[0], lifetime: lifetime, crlURL: crlURL}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(c.cert.PublicKey) {
		return nil, fmt.Errorf("read authority %s: the key %s is not the first certificate's", certFile, keyFile)
	}
	if !c.cert.IsCA || c.cert.KeyUsage&x509.KeyUsageCertSign == 0 || c.cert.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return nil, fmt.Errorf("read authority %s: %s may not sign certificates and revocation lists", certFile, c.cert.Subject)
	}
	if lifetime < MinLifetime {
		return nil, fmt.Errorf("read authority: certificates that live for %s: at least %s", lifetime, MinLifetime)
	}
	if u, err := url.Parse(crlURL); crlURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("read authority: address of the revocation list %q: want http://HOST/PATH", crlURL)
	}
	for _, cert := range certs {
		if !selfSigned(cert) {
			c.above = append(c.above, cert)
		}
	}
	return c, nil
}

func loadKey(file string) (crypto.Signer, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "EC PARAMETERS": // openssl ecparam -genkey writes them first
			continue
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			err = fmt.Errorf("PEM of the type %.40q, want PRIVATE KEY (PKCS #8, unencrypted)", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", file, err)
		}
		switch k := key.(type) {
		case *ecdsa.PrivateKey:
			return k, nil
		case *rsa.PrivateKey:
			if k.N.BitLen() >= 2048 {
				return k, nil
			}
		}
		return nil, fmt.Errorf("read key %s: want ECDSA, or RSA of at least 2048 bits", file)
	}
	return nil, fmt.Errorf("read key %s: no PEM in it", file)
}

// Issue makes a certificate after the profile: a random serial number; from five
// minutes ago, for the lifetime, never beyond the authority's own time; the device
// as subject and as URI; for signatures of TLS clients and nothing else.
func (c *CA) Issue(_ context.Context, now time.Time, w Want) ([]*x509.Certificate, error) {
	if !now.Before(c.cert.NotAfter) || now.Before(c.cert.NotBefore) {
		return nil, fmt.Errorf("%w: its certificate is good from %s to %s", ErrAway, c.cert.NotBefore.Format(time.RFC3339), c.cert.NotAfter.Format(time.RFC3339))
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{w.Tenant}, CommonName: w.Device},
		URIs:                  []*url.URL{URI(w.Tenant, w.Device, w.Use)},
		NotBefore:             later(now.Add(-skew), c.cert.NotBefore),
		NotAfter:              earlier(now.Add(c.lifetime), c.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if template.SubjectKeyId, err = keyIdentifier(w.CSR.PublicKey); err != nil {
		return nil, err
	}
	if w.Use == enrolment.Service {
		template.Subject.OrganizationalUnit = []string{string(enrolment.Service)}
	}
	if c.crlURL != "" {
		template.CRLDistributionPoints = []string{c.crlURL}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, w.CSR.PublicKey, c.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", w.Device, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", w.Device, err)
	}
	return append([]*x509.Certificate{leaf}, c.above...), nil
}

// serialNumber makes a serial number that is not zero.
func serialNumber() (*big.Int, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
		if err != nil {
			return nil, fmt.Errorf("make serial number: %w", err)
		}
		if n.Sign() > 0 {
			return n, nil
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

var errKeyIdentifier = errors.New("name key: not a public key")
