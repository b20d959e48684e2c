// Package pki is the lab's own public key infrastructure: the authorities, the
// certificates of broker and backend, and the keys that sign releases, receipts and
// questions. It is made once, kept in a folder that is never committed, and trusted
// by nothing outside the lab.
package pki

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
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// BrokerName and RegistrarName are the names in the certificates of the lab's
// broker and registrar.
const (
	BrokerName    = "broker.ward.lab"
	RegistrarName = "registrar.ward.lab"
)

// Keys are the lab's keys and authorities. Every key is ECDSA P-256.
type Keys struct {
	Dir       string
	Fleet     Authority         // issues the broker's, the backend's and the devices' certificates
	Foreign   Authority         // an authority that no device trusts
	Release   *ecdsa.PrivateKey // signs release manifests
	Stray     *ecdsa.PrivateKey // a release key that no device trusts
	Receipt   *ecdsa.PrivateKey // signs the fleet's receipts
	Challenge *ecdsa.PrivateKey // signs the fleet's questions
	Policy    *ecdsa.PrivateKey // signs the approved boot states
}

// Authority is a certificate authority: a certificate and its key.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Open loads the lab's keys from dir and makes those that are missing,
// among them the broker's and the backend's certificates.
func Open(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key folder: %w", err)
	}
	p := &Keys{Dir: dir}
	var err error
	for name, key := range map[string]**ecdsa.PrivateKey{"release": &p.Release, "stray": &p.Stray, "receipt": &p.Receipt, "challenge": &p.Challenge, "policy": &p.Policy} {
		if *key, err = p.key(name); err != nil {
			return nil, err
		}
	}
	if p.Fleet, err = p.authority("fleet-ca", "Ward Lab Fleet CA"); err != nil {
		return nil, err
	}
	if p.Foreign, err = p.authority("foreign-ca", "Somebody Else's CA"); err != nil {
		return nil, err
	}
	leaves := []struct {
		name, cn string
		usage    x509.ExtKeyUsage
		by       Authority
		dns      []string
	}{
		{"broker", BrokerName, x509.ExtKeyUsageServerAuth, p.Fleet, []string{BrokerName, "localhost"}},
		{"registrar", RegistrarName, x509.ExtKeyUsageServerAuth, p.Fleet, []string{RegistrarName, "localhost"}},
		{"broker-other-name", "elsewhere.ward.lab", x509.ExtKeyUsageServerAuth, p.Fleet, []string{"elsewhere.ward.lab"}},
		{"broker-foreign", BrokerName, x509.ExtKeyUsageServerAuth, p.Foreign, []string{BrokerName, "localhost"}},
		{"backend", "wardfleet", x509.ExtKeyUsageClientAuth, p.Fleet, nil},
		{"reader", "reader", x509.ExtKeyUsageClientAuth, p.Fleet, nil},
	}
	for _, l := range leaves {
		if _, err := os.Stat(p.File(l.name + ".crt")); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for certificate: %w", err)
		}
		key, err := p.key(l.name)
		if err != nil {
			return nil, err
		}
		der, err := l.by.issue(key.Public(), pkix.Name{CommonName: l.cn}, l.usage, l.dns)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(p.File(l.name+".crt"), pemBlock("CERTIFICATE", der), 0o644); err != nil {
			return nil, fmt.Errorf("write certificate: %w", err)
		}
	}
	return p, nil
}

// File is the path of a file of the lab's PKI.
func (p *Keys) File(name string) string { return filepath.Join(p.Dir, name) }

// TrustAnchors are the files of /usr/lib/ward/trust in the device's image.
func (p *Keys) TrustAnchors() (map[string][]byte, error) {
	release, err := PublicPEM(p.Release.Public())
	if err != nil {
		return nil, err
	}
	receipt, err := PublicPEM(p.Receipt.Public())
	if err != nil {
		return nil, err
	}
	challenge, err := PublicPEM(p.Challenge.Public())
	if err != nil {
		return nil, err
	}
	policy, err := PublicPEM(p.Policy.Public())
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"policy/lab.pem":    policy,
		"challenge/lab.pem": challenge,
		"release/lab.pem":   release,
		"receipt/lab.pem":   receipt,
		"fleet/lab-ca.pem":  pemBlock("CERTIFICATE", p.Fleet.Cert.Raw),
	}, nil
}

// IssueDevice certifies a device's reporting key: the common name is the
// device id, the organisation its tenant. It returns PEM, leaf first.
func (p *Keys) IssueDevice(pub crypto.PublicKey, tenant, device string) ([]byte, error) {
	der, err := p.Fleet.issue(pub, pkix.Name{CommonName: device, Organization: []string{tenant}}, x509.ExtKeyUsageClientAuth, nil, &url.URL{Scheme: "urn", Opaque: "ward:" + tenant + ":" + device})
	if err != nil {
		return nil, err
	}
	return append(pemBlock("CERTIFICATE", der), pemBlock("CERTIFICATE", p.Fleet.Cert.Raw)...), nil
}

func (p *Keys) key(name string) (*ecdsa.PrivateKey, error) {
	file := p.File(name + ".key")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		if err := os.WriteFile(file, pemBlock("PRIVATE KEY", der), 0o600); err != nil {
			return nil, fmt.Errorf("write key: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read key %s: no PEM block; delete the lab's key folder to begin anew", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse key %s: %w", file, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("parse key %s: not an EC key", file)
	}
	return ec, nil
}

func (p *Keys) authority(name, cn string) (Authority, error) {
	key, err := p.key(name)
	if err != nil {
		return Authority{}, err
	}
	file := p.File(name + ".crt")
	if b, err := os.ReadFile(file); err == nil {
		block, _ := pem.Decode(b)
		if block == nil {
			return Authority{}, fmt.Errorf("read certificate %s: no PEM block; delete the lab's key folder to begin anew", file)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Authority{}, fmt.Errorf("parse certificate %s: %w", file, err)
		}
		return Authority{Cert: cert, Key: key}, nil
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn},
		NotBefore: notBefore, NotAfter: notBefore.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Authority{}, fmt.Errorf("make certificate authority: %w", err)
	}
	if err := os.WriteFile(file, pemBlock("CERTIFICATE", der), 0o644); err != nil {
		return Authority{}, fmt.Errorf("write certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Authority{}, fmt.Errorf("parse certificate: %w", err)
	}
	return Authority{Cert: cert, Key: key}, nil
}

// notBefore is the begin of every lab certificate, before any clock the
// virtual device may show.
var notBefore = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func (a Authority) issue(pub crypto.PublicKey, subject pkix.Name, usage x509.ExtKeyUsage, dns []string, uris ...*url.URL) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: notBefore, NotAfter: notBefore.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true, DNSNames: dns, URIs: uris,
	}
	if usage == x509.ExtKeyUsageServerAuth {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, pub, a.Key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", subject.CommonName, err)
	}
	return der, nil
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// PublicPEM encodes a public key.
func PublicPEM(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pemBlock("PUBLIC KEY", der), nil
}
