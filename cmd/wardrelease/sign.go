package main

import (
	"crypto"
	"fmt"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/cmd/wardrelease/keys"
	"ward/internal/trust/release"
)

func newSign() *cobra.Command {
	var files []string
	var opener keys.Opener
	var out string
	cmd := &cobra.Command{
		Use:   "sign --key KEY.pem MANIFEST.json -o RELEASE.dsse",
		Short: "Sign a release manifest",
		Long: "Sign a release manifest with one key or more, into the DSSE envelope that stands beside the kernel image. A manifest that a device would refuse is not signed, nor one whose policy key is among the keys.\n" +
			"A key is a file (PKCS #8 or SEC 1) or, as a TSS2 PRIVATE KEY file, lives in the TPM that --tpm names.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			defer opener.Close()
			text, err := disk.Read(args[0], disk.MaxManifest)
			if err != nil {
				return err
			}
			m, err := release.Parse(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			var signers []crypto.Signer
			for _, name := range files {
				s, err := opener.Signer(cmd.Context(), name)
				if err != nil {
					return err
				}
				signers = append(signers, s)
			}
			envelope, err := release.Sign(m, signers...)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := disk.Write(out, envelope); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "signed %s %s on %s with %d keys\n", m.Product, m.Version, m.Board, len(signers))
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&files, "key", nil, "private key `FILE` in PEM, P-256 or Ed25519 (repeatable)")
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the envelope to `FILE`")
	opener.Register(cmd.Flags())
	cmd.MarkFlagRequired("key")
	cmd.MarkFlagRequired("output")
	return cmd
}
