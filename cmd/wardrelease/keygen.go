package main

import (
	"crypto/ecdsa"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/cmd/wardrelease/keys"
	"ward/internal/format/dsse"
)

func newKeygen() *cobra.Command {
	var opener keys.Opener
	cmd := &cobra.Command{
		Use:   "keygen KEY.pem PUBLIC.pem",
		Short: "Make a P-256 key pair for releases or policies, on disk or in a TPM",
		Long: "Make a P-256 key pair that signs releases (its PUBLIC.pem belongs into the image's trust/release folder) or policies (trust/policy; one key, and another one than every release key).\n" +
			"Without --tpm, KEY.pem is the private key (PKCS #8, unencrypted, mode 0600): for laboratories and tests. With --tpm, the private key never leaves that TPM, and KEY.pem is a TSS2 PRIVATE KEY file that only that TPM can use; it has no authorisation value, so who may open the TPM may sign. It cannot be copied: a release key needs a second one beside it for the day when the TPM breaks; the policy key is one for the life of the product, and who loses it approves no further release.\n" +
			"Existing files are never replaced.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			defer opener.Close()
			private, key, err := makeKey(cmd, &opener)
			if err != nil {
				return err
			}
			public, err := keys.Public(key)
			if err != nil {
				return err
			}
			id, err := dsse.KeyID(key)
			if err != nil {
				return err
			}
			if err := disk.WriteNew(args[0], private, 0o600); err != nil {
				return err
			}
			if err := disk.WriteNew(args[1], public, 0o644); err != nil {
				os.Remove(args[0])
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %s\n", id)
			return nil
		},
	}
	cmd.Flags().StringVar(&opener.Device, "tpm", "", "make the key in this TPM, `DEVICE` file (/dev/tpmrm0) or UNIX socket of a software TPM")
	return cmd
}

func makeKey(cmd *cobra.Command, opener *keys.Opener) ([]byte, *ecdsa.PublicKey, error) {
	if opener.Device == "" {
		return keys.MakeOnDisk()
	}
	return opener.Make(cmd.Context())
}
