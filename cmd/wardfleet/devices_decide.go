package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/fleet/register"
)

func newDevicesReplace() *cobra.Command {
	var dir, reason, ek string
	cmd := &cobra.Command{
		Use:   "replace TENANT DEVICE --devices DIR --reason TEXT [--ek DIGEST]",
		Short: "Open a device for one other TPM, as when its main board is replaced",
		Long: "Open a device for one other TPM: the next one that enrols in its name takes its place, once, and what was issued to the one before\n" +
			"is revoked by that. Both acts are recorded. Until then the TPM so far goes on, unless the device is revoked.\n\n" +
			"With --ek only the TPM with this endorsement key is let in: SHA-256 of its SubjectPublicKeyInfo, lower-case hex. Give it\n" +
			"whenever it is known, and to take back a device that was revoked by mistake: without it a revoked TPM stays out.\n\n" +
			"Exit status: 0 opened; 1 no such device, or the TPM is another device's; 2 bad usage or unreadable input.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := register.Open(dir)
			if err != nil {
				return err
			}
			if _, err := r.Replace(time.Now(), args[0], args[1], reason, ek); err != nil {
				return refused(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is open for one other TPM: have the device enrol now\n", args[1], args[0])
			return err
		},
	}
	devicesFlag(cmd, &dir)
	cmd.Flags().StringVar(&reason, "reason", "", "why, one line of `TEXT`")
	cmd.Flags().StringVar(&ek, "ek", "", "only the TPM with this endorsement key, `DIGEST`")
	required(cmd, "reason")
	return cmd
}

func newDevicesRevoke() *cobra.Command {
	var dir, reason string
	cmd := &cobra.Command{
		Use:   "revoke TENANT DEVICE --devices DIR --reason TEXT",
		Short: "Revoke a device: its certificates, and its TPM's right to more",
		Long: "Revoke a device, as when it was stolen or taken out of service: all its certificates go to the revocation list, and its TPM gets\n" +
			"no more. A running registrar sees it at once and serves the new list within ten seconds; a broker needs the list too\n" +
			"(wardfleet registrar crl). With an upstream EST server the certificates are revoked there: their serial numbers are printed.\n\n" +
			"Exit status: 0 revoked; 1 no such device, or revoked before; 2 bad usage or unreadable input.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := register.Open(dir)
			if err != nil {
				return err
			}
			now := time.Now()
			if _, err := r.Revoke(now, args[0], args[1], reason); err != nil {
				return refused(err)
			}
			certs, err := r.Certificates(now)
			if err != nil {
				return err
			}
			own := certs[args[0]+"/"+args[1]]
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is revoked, with %d certificates\n", args[1], args[0], len(own)); err != nil {
				return err
			}
			for _, c := range own {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "  %s, %s, good until %s\n", c.Serial, c.Use, c.NotAfter.Format(time.RFC3339)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	devicesFlag(cmd, &dir)
	cmd.Flags().StringVar(&reason, "reason", "", "why, one line of `TEXT`")
	required(cmd, "reason")
	return cmd
}
