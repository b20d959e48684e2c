package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/fleet/registrar"
)

func newRegistrarCRL() *cobra.Command {
	var devices, caCert, caKey, output string
	var lifetime time.Duration
	var der bool
	cmd := &cobra.Command{
		Use:   "crl -o FILE --devices DIR --ca-cert FILE --ca-key FILE",
		Short: "Write the revocation list for a broker",
		Long: "Write the revocation list anew, PEM as mosquitto's crlfile takes it, or DER. It holds the certificates of devices that were\n" +
			"revoked, and of TPMs in whose place another came. A broker must be told to read it again (mosquitto: SIGHUP);\n" +
			"write it well before its time is over, for with a list that is too old a broker lets nobody in.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lifetime < issue.MinCRLLifetime {
				return fmt.Errorf("a revocation list for %s: at least %s", lifetime, issue.MinCRLLifetime)
			}
			r, err := register.Open(devices)
			if err != nil {
				return err
			}
			ca, err := issue.LoadCA(caCert, caKey, issue.DefaultLifetime, "")
			if err != nil {
				return err
			}
			list, entries, err := registrar.NewCRL(time.Now(), r, ca, lifetime)
			if err != nil {
				return err
			}
			if !der {
				list = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
			}
			aside := output + ".new"
			if err := os.WriteFile(aside, list, 0o644); err != nil {
				return fmt.Errorf("write revocation list: %w", err)
			}
			if err := os.Rename(aside, output); err != nil {
				return fmt.Errorf("write revocation list: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d certificates\n", output, entries)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "", "the list, `FILE`, which is replaced whole")
	flags.BoolVar(&der, "der", false, "write DER")
	flags.StringVar(&devices, "devices", "", "the register of devices, `DIR`")
	flags.StringVar(&caCert, "ca-cert", "", "the issuing authority's certificate, PEM `FILE`")
	flags.StringVar(&caKey, "ca-key", "", "the issuing authority's key, PEM `FILE`")
	flags.DurationVar(&lifetime, "crl-lifetime", issue.DefaultCRLLifetime, "how long the list counts, `TIME`")
	required(cmd, "output", "devices", "ca-cert", "ca-key")
	return cmd
}
