package factory

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/cli"
	"ward/internal/format/dsse"
	"ward/internal/provision"
)

// maxCertificates bounds a file of certificates, in bytes.
const maxCertificates = 64 << 10

func newVerifyFarewell() *cobra.Command {
	var certificate string
	cmd := &cobra.Command{
		Use:   "verify FAREWELL --certificate FILE",
		Short: "Verify a device's farewell, on any machine",
		Long: `Verify a farewell with the device's certificate (the reporting key's, PEM, leaf
first), as it was issued: that this device said it, and where its record ended.
Whether the certificate is the device's, the fleet's register knows.

Exit status: 0 it is the device's farewell, 1 it is not, 2 a file cannot be read.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			envelope, err := console.ReadAll(cmd, args[0], dsse.MaxSize)
			if err != nil {
				return err
			}
			text, err := console.ReadAll(cmd, certificate, maxCertificates)
			if err != nil {
				return err
			}
			ring, name, err := keyOf(text)
			if err != nil {
				return console.Unreadable(certificate, err)
			}
			e, err := provision.VerifyFarewell(envelope, ring)
			if errors.Is(err, dsse.ErrMalformed) {
				return console.Unreadable(args[0], err)
			}
			if err == nil && e.Source.Device != name {
				err = fmt.Errorf("it is of %s, and the certificate of %s", e.Source.Device, name)
			}
			if err != nil {
				return &cli.Exit{Status: cli.Findings, Err: err}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %s ended its record at %s: epoch %d, event %d\n",
				e.Source.Device, e.Source.Tenant, e.Time.UTC().Format(time.RFC3339), e.Epoch, e.Sequence)
			return err
		},
	}
	cmd.Flags().StringVar(&certificate, "certificate", "", "the device's certificate, PEM `FILE`")
	if err := cmd.MarkFlagRequired("certificate"); err != nil {
		panic(err)
	}
	return cmd
}

// keyOf reads the first certificate of a file: its key and whose it is.
func keyOf(text []byte) (*dsse.Keyring, string, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, "", errors.New("want a CERTIFICATE in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, "", err
	}
	ring, err := dsse.NewKeyring(c.PublicKey)
	return ring, c.Subject.CommonName, err
}
