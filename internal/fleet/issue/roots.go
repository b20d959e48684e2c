package issue

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

const (
	// maxFile bounds a file of certificates or of a key, in bytes.
	maxFile = 1 << 20
	// maxRoots bounds what is handed to devices as the fleet's authorities.
	maxRoots = 16
)

// Roots are the fleet's authorities: self-signed roots, which are trusted, and what
// stands beside them, intermediate authorities and the certificates of a rollover
// by which old and new root vouch for each other (RFC 4210, section 4.4).
type Roots struct {
	all   []*x509.Certificate
	pool  *x509.CertPool
	other *x509.CertPool
}

// LoadRoots reads PEM files. At least one certificate must be a root.
func LoadRoots(files ...string) (*Roots, error) {
	r := &Roots{pool: x509.NewCertPool(), other: x509.NewCertPool()}
	trusted := 0
	for _, file := range files {
		certs, err := LoadCertificates(file)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			if slices.ContainsFunc(r.all, c.Equal) {
				continue
			}
			if !c.IsCA {
				return nil, fmt.Errorf("read roots %s: %s is no authority", file, c.Subject)
			}
			r.all = append(r.all, c)
			if selfSigned(c) {
				r.pool.AddCert(c)
				trusted++
			} else {
				r.other.AddCert(c)
			}
		}
	}
	switch {
	case trusted == 0:
		return nil, errors.New("read roots: none of the certificates is self-signed: give the fleet's root with --roots")
	case len(r.all) > maxRoots:
		return nil, fmt.Errorf("read roots: %d certificates, at most %d are handed to devices", len(r.all), maxRoots)
	}
	return r, nil
}

// Pool are the roots, to verify clients with.
func (r *Roots) Pool() *x509.CertPool { return r.pool }

// DER are all certificates, in the order of the files.
func (r *Roots) DER() [][]byte {
	var all [][]byte
	for _, c := range r.all {
		all = append(all, c.Raw)
	}
	return all
}

// Verify verifies the certificate of a client, and returns its chain without the
// root, leaf first.
func (r *Roots) Verify(now time.Time, leaf *x509.Certificate, others ...*x509.Certificate) ([]*x509.Certificate, error) {
	between := r.other.Clone()
	for _, c := range others {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: r.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	return chains[0][:len(chains[0])-1], nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

// LoadCertificates reads the certificates of a PEM file, at least one.
func LoadCertificates(file string) ([]*x509.Certificate, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("read certificates %s: there is a %.40q among them", file, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificates %s: %w", file, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("read certificates %s: no certificate (PEM) in it", file)
	}
	return certs, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return b, err
}
