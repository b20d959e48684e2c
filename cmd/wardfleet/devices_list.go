package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/fleet/register"
)

// listed is a device with its certificates.
type listed struct {
	register.Device
	Certificates []register.Issued `json:"certificates"`
}

func newDevicesList() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list --devices DIR [--json]",
		Short: "List the devices with their certificates",
		Long: "List the devices: a line each, with its TPM's number (1, and one more at each replacement), whether it is revoked or stands\n" +
			"open for another TPM, and until when its newest certificates are good. Keys that were put into the folder by hand, without an act,\n" +
			"are not listed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := register.Open(dir)
			if err != nil {
				return err
			}
			devices, err := r.Devices()
			if err != nil {
				return err
			}
			now := time.Now()
			certs, err := r.Certificates(now)
			if err != nil {
				return err
			}
			all := []listed{}
			for _, d := range devices {
				all = append(all, listed{d, append([]register.Issued{}, certs[d.Tenant+"/"+d.Device]...)})
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), map[string]any{"devices": all, "findings": []string{}})
			}
			for _, d := range all {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), d.line()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	devicesFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (d listed) line() string {
	line := fmt.Sprintf("%s of %s: TPM %d since %s", d.Device.Device, d.Tenant, d.Life, d.Since.Format(time.DateOnly))
	if d.EK == "" {
		line += ", not enrolled yet"
	}
	if d.Revoked != nil {
		line += fmt.Sprintf(", revoked since %s (%s)", d.Revoked.Format(time.DateOnly), d.Reason)
	}
	if d.Open {
		line += fmt.Sprintf(", open for another TPM (%s)", d.Reason)
	}
	newest := make(map[string]register.Issued)
	for _, c := range d.Certificates {
		newest[c.Use] = c
	}
	for _, use := range []string{"reporting", "service"} {
		if c, ok := newest[use]; ok {
			line += fmt.Sprintf(", %s until %s", use, c.NotAfter.Format(time.DateOnly))
		}
	}
	return line
}
