package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
)

func newReceipt() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipt",
		Short: "Keys for receipts",
		Long:  "Keys for receipts, with which the fleet confirms what devices report.",
	}
	cmd.AddCommand(newKeygen("receipt", "Whoever has the private key can make devices forget events that the fleet never saw."), newRotate(rotation.Receipt))
	return cmd
}

func newChallenge() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "challenge",
		Short: "Keys for challenges",
		Long:  "Keys for challenges, with which the fleet asks devices for evidence.",
	}
	cmd.AddCommand(newKeygen("challenge", "Whoever has the private key can make a device's TPM sign evidence, no more often than every ten seconds."), newRotate(rotation.Challenge))
	return cmd
}

// newKeygen makes the verb that makes a key pair of a kind.
func newKeygen(kind, who string) *cobra.Command {
	return &cobra.Command{
		Use:   "keygen KEY.pem PUBLIC.pem",
		Short: "Make a P-256 key pair that signs " + kind + "s",
		Long: "Make a P-256 key pair that signs " + kind + "s: KEY.pem (PKCS #8, unencrypted, mode 0600) for wardfleet listen --" + kind + "-key, and\n" +
			"PUBLIC.pem, which belongs into the image's trust/" + kind + " folder. Existing files are never replaced.\n" + who,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := makeKey(args[0], args[1])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s key %s\n", kind, id)
			return err
		},
	}
}

// makeKey writes a new key pair and returns its id.
func makeKey(keyPath, publicPath string) (id string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encode key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("encode key: %w", err)
	}
	if id, err = dsse.KeyID(key.Public()); err != nil {
		return "", err
	}
	if err := writeNew(keyPath, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return "", err
	}
	return id, writeNew(publicPath, 0o644, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

func writeNew(path string, mode fs.FileMode, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return fmt.Errorf("write file: %w", err)
	}
	return f.Close()
}
