package registrar

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/fleet/issue"
	"ward/internal/trust/policy"
)

// maxMakers bounds the certificates of TPM makers: all that are known are some
// hundreds.
const maxMakers = 2000

// LoadMakers reads the TPM makers' roots and intermediate authorities: the files
// of a folder that end in .pem or .crt, PEM.
func LoadMakers(dir string) ([]*x509.Certificate, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read TPM makers: %w", err)
	}
	var all []*x509.Certificate
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".pem") && !strings.HasSuffix(f.Name(), ".crt") {
			continue
		}
		certs, err := issue.LoadCertificates(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read TPM makers: %w", err)
		}
		if all = append(all, certs...); len(all) > maxMakers {
			return nil, fmt.Errorf("read TPM makers %s: more than %d certificates", dir, maxMakers)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read TPM makers %s: no file *.pem or *.crt in it: the roots of the makers of your devices' TPMs belong there", dir)
	}
	return all, nil
}

// LoadPolicyKey reads the public part of the key that signs boot policies, PEM.
func LoadPolicyKey(file string) (*policy.Key, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read policy key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("read policy key %s: want PEM of type PUBLIC KEY", file)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read policy key %s: %w", file, err)
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read policy key %s: want ECDSA P-256", file)
	}
	key, err := policy.NewKey(ec)
	if err != nil {
		return nil, fmt.Errorf("read policy key %s: %w", file, err)
	}
	return &key, nil
}
