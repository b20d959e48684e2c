package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"ward/internal/format/dsse"
)

func newKeygen() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen KEY.pem PUBLIC.pem",
		Short: "Make a P-256 release key pair on disk",
		Long: "Make a P-256 release key pair: KEY.pem (PKCS #8, unencrypted, mode 0600) and PUBLIC.pem, which belongs into the image's trust/release folder.\n" +
			"Existing files are never replaced. Keys of a product belong into an HSM; this verb is for laboratories and tests.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return fmt.Errorf("make key: %w", err)
			}
			private, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return fmt.Errorf("make key: %w", err)
			}
			public, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				return fmt.Errorf("make key: %w", err)
			}
			id, err := dsse.KeyID(key.Public())
			if err != nil {
				return err
			}
			if err := writeNewPEM(args[0], "PRIVATE KEY", private, 0o600); err != nil {
				return err
			}
			if err := writeNewPEM(args[1], "PUBLIC KEY", public, 0o644); err != nil {
				os.Remove(args[0])
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %s\n", id)
			return nil
		},
	}
}

// writeNewPEM writes a file that must not exist.
func writeNewPEM(name, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
