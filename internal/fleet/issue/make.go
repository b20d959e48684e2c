package issue

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files of a laboratory's authority.
const (
	CACertFile = "ca.crt"
	CAKeyFile  = "ca.key"
)

// caLifetime is that of a laboratory's authority, serverLifetime that of the
// certificate of its registrar.
const (
	caLifetime     = 10 * 365 * 24 * time.Hour
	serverLifetime = 2 * 365 * 24 * time.Hour
)

// MakeCA makes a laboratory's authority: ca.crt and ca.key in a folder, which is
// made; and for each name of a server NAME.crt and NAME.key beneath it. Files that
// are there are never replaced.
func MakeCA(now time.Time, dir, name string, servers []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make authority: %w", err)
	}
	for _, file := range []string{CACertFile, CAKeyFile} {
		if _, err := os.Lstat(filepath.Join(dir, file)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make authority: %s is there already, and is never replaced", filepath.Join(dir, file))
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make authority: %w", err)
	}
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-skew), NotAfter: now.Add(caLifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if err := makePair(dir, "ca", root, root, key, key); err != nil {
		return fmt.Errorf("make authority: %w", err)
	}
	for _, server := range servers {
		if filepath.Base(server) != server || server == "ca" {
			return fmt.Errorf("make certificate of server %q: not a host's name", server)
		}
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return fmt.Errorf("make certificate of server %s: %w", server, err)
		}
		leaf := &x509.Certificate{
			Subject: pkix.Name{CommonName: server}, NotBefore: now.Add(-skew), NotAfter: now.Add(serverLifetime),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		}
		if ip := net.ParseIP(server); ip != nil {
			leaf.IPAddresses = []net.IP{ip}
		} else {
			leaf.DNSNames = []string{server}
		}
		if err := makePair(dir, server, leaf, root, own, key); err != nil {
			return fmt.Errorf("make certificate of server %s: %w", server, err)
		}
	}
	return nil
}

// makePair signs a certificate, and writes
// it with its key.
func makePair(dir, name string, template, issuer *x509.Certificate, own *ecdsa.PrivateKey, by crypto.Signer) error {
	var err error
	if template.SerialNumber, err = serialNumber(); err != nil {
		return err
	}
	if template.SubjectKeyId, err = keyIdentifier(own.Public()); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, own.Public(), by)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, name+".key"), 0o600, "PRIVATE KEY", private); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, name+".crt"), 0o644, "CERTIFICATE", der)
}

func writeNew(path string, mode fs.FileMode, kind string, der []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
}
