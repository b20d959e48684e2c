// Package roots says which authorities a device believes: the fleet's roots of
// its image, and roots that came later and that one of these vouches for with a
// "new with old" certificate (RFC 7030, section 4.1.3; RFC 4210, section 4.4).
// A voucher is verified again whenever it is read, so that a root that leaves the
// image takes with it what it vouched for.
package roots

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"ward/internal/device/anchors"
)

const (
	// maxFile bounds a file of certificates; one takes some 900 bytes.
	maxFile = 64 << 10
	// maxImage bounds the roots of the image.
	maxImage = 32
	// MaxLearned bounds the roots that came later: two changes of roots overlap at
	// most, with room for as many again.
	MaxLearned = 4
)

// Read reads the roots of the image: the *.pem files of a folder. None gives
// fs.ErrNotExist; one that cannot be read makes all unusable.
func Read(dir string) ([]*x509.Certificate, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	var all []*x509.Certificate
	for _, f := range files {
		text, err := anchors.Read(f, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read roots: %s: %w", f, err)
		}
		certs, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("read roots: %s: %w", f, err)
		}
		if all = append(all, certs...); len(all) > maxImage {
			return nil, fmt.Errorf("read roots: more than %d certificates in %s", maxImage, dir)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read roots: no certificate in %s: %w", filepath.Join(dir, "*.pem"), fs.ErrNotExist)
	}
	return all, nil
}

func parse(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("want PEM of type CERTIFICATE and nothing else")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs, text = append(certs, cert), rest
	}
	return certs, nil
}

// Learned is a root that came later, with what vouches for it.
type Learned struct {
	Root    *x509.Certificate
	Voucher *x509.Certificate
}

// Accept finds the roots among certificates that are vouched for, in their order,
// at most MaxLearned: by a root of the image, or by one that was accepted before.
// The times of certificates are not looked at: a voucher counts for as long as
// the root that it is for.
func Accept(image, certs []*x509.Certificate) []Learned {
	var learned []Learned
	trusted := append([]*x509.Certificate(nil), image...)
	for again := true; again; {
		again = false
		for _, c := range certs {
			if len(learned) == MaxLearned || !isRoot(c) || contains(trusted, c) {
				continue
			}
			if v := voucher(trusted, certs, c); v != nil {
				learned, trusted, again = append(learned, Learned{c, v}), append(trusted, c), true
			}
		}
	}
	return learned
}

// Learn takes what a registrar offers beside what was stored before, and gives
// what is to be stored. A new root and its voucher must be valid now. What has
// expired or is part of the image by now goes. changed says whether something
// else is to be stored than before.
func Learn(image []*x509.Certificate, stored, offered []*x509.Certificate, now time.Time) (learned []Learned, changed bool) {
	var all []*x509.Certificate
	for _, c := range stored {
		if !isRoot(c) || now.Before(c.NotAfter) {
			all = append(all, c)
		}
	}
	for _, c := range offered {
		if !contains(all, c) && now.Before(c.NotAfter) && !now.Before(c.NotBefore) {
			all = append(all, c)
		}
	}
	learned = Accept(image, all)
	return learned, len(Flat(learned)) != len(stored) || !sameRoots(learned, Accept(image, stored))
}

// Flat is what is stored of them.
func Flat(learned []Learned) [][]byte {
	var der [][]byte
	for _, l := range learned {
		der = append(der, l.Root.Raw, l.Voucher.Raw)
	}
	return der
}

func sameRoots(a, b []Learned) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Root.Equal(b[i].Root) {
			return false
		}
	}
	return true
}

// isRoot says whether a certificate is an authority's own: it may sign
// certificates and its signature is by its own key.
func isRoot(c *x509.Certificate) bool {
	return authority(c) && bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

func authority(c *x509.Certificate) bool {
	return c.IsCA && c.BasicConstraintsValid && c.KeyUsage&x509.KeyUsageCertSign != 0
}

// voucher finds a certificate for the same name and key that a trusted root
// signed.
func voucher(trusted, certs []*x509.Certificate, root *x509.Certificate) *x509.Certificate {
	key, ok := root.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil
	}
	for _, v := range certs {
		if !authority(v) || !bytes.Equal(v.RawSubject, root.RawSubject) || !key.Equal(v.PublicKey) {
			continue
		}
		for _, t := range trusted {
			if bytes.Equal(v.RawIssuer, t.RawSubject) && v.CheckSignatureFrom(t) == nil {
				return v
			}
		}
	}
	return nil
}

func contains(all []*x509.Certificate, c *x509.Certificate) bool {
	for _, x := range all {
		if x.Equal(c) {
			return true
		}
	}
	return false
}
