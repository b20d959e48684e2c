package ingest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
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

// LoadRotations reads files of rotations, in the order in which they follow each
// other; those of receipt keys and of challenge keys are told apart.
func LoadRotations(paths []string) (Rotations, error) {
	var r Rotations
	for _, path := range paths {
		envelope, err := readEnvelope(path)
		if err != nil {
			return Rotations{}, err
		}
		use, err := rotation.UseOf(envelope)
		if err != nil {
			return Rotations{}, fmt.Errorf("read rotation %s: %w", path, err)
		}
		line := &r.Receipt
		if use == rotation.Challenge {
			line = &r.Challenge
		}
		if err := line.Add(use, envelope); err != nil {
			return Rotations{}, fmt.Errorf("read rotation %s: %w", path, err)
		}
	}
	return r, nil
}

func readEnvelope(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read rotation: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, rotation.MaxSize+1)) // one byte too many is refused
	if err != nil {
		return nil, fmt.Errorf("read rotation: %w", err)
	}
	return b, nil
}

// LoadPublicKey reads one public key: PEM of type PUBLIC KEY, ECDSA P-256 or
// Ed25519. what names it in errors.
func LoadPublicKey(what, path string) (crypto.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	keys, err := dsse.ParseKeyring(text)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", what, path, err)
	}
	if keys.Len() != 1 {
		return nil, fmt.Errorf("read %s %s: %d keys, want one", what, path, keys.Len())
	}
	return keys.Public()[0], nil
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
