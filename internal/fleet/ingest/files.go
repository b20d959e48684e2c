package ingest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"ward/internal/format/dsse"
)

// LoadTLS reads the backend's credentials: the fleet's roots, the backend's
// certificate chain and its key, all PEM. The client id is the certificate's
// common name.
func LoadTLS(ca, cert, key, serverName string) (config *tls.Config, clientID string, err error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, "", fmt.Errorf("read roots: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, "", fmt.Errorf("read roots %s: no certificate in it", ca)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, "", fmt.Errorf("read certificate %s with key %s: %w", cert, key, err)
	}
	if pair.Leaf.Subject.CommonName == "" {
		return nil, "", fmt.Errorf("read certificate %s: it has no common name, which is the client id", cert)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: serverName,
	}, pair.Leaf.Subject.CommonName, nil
}

// LoadKey reads a private key that signs receipts or challenges: PEM, PKCS #8,
// ECDSA P-256 or Ed25519. what names it in errors, "receipt key".
func LoadKey(what, path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read %s %s: want PEM of type PRIVATE KEY (PKCS #8)", what, path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", what, path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read %s %s: it cannot sign", what, path)
	}
	if _, err := dsse.KeyID(signer.Public()); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", what, path, err)
	}
	return signer, nil
}
