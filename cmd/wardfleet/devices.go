package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/fleet/register"
)

func newDevices() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "The register of devices: their TPMs and what operators decided",
		Long: "The register of devices: the attestation keys with which wardfleet listen tells who signed evidence, the TPMs that\n" +
			"wardfleet registrar enrolled, and the acts of operators.",
	}
	cmd.AddCommand(newDevicesAdd(), newDevicesList(), newDevicesReplace(), newDevicesRevoke())
	return cmd
}

// refused gives the refusals of the register their exit status.
func refused(err error) error {
	for _, is := range []error{register.ErrOtherKey, register.ErrOtherTPM, register.ErrTaken, register.ErrRevoked, register.ErrUnknown} {
		if errors.Is(err, is) {
			return cli.Fail(cli.Findings, "%w", err)
		}
	}
	return err
}

func newDevicesAdd() *cobra.Command {
	var dir, file, reason string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add TENANT DEVICE --devices DIR --ak FILE [--replace --reason TEXT]",
		Short: "Register a device's attestation key",
		Long: "Register a device's attestation key, the public part: PEM or DER of a public key or certificate, or TPM2B_PUBLIC.\n" +
			"It is kept as DIR/TENANT/DEVICE.ak.pem, and the act as a line of DIR/acts.jsonl. Devices that enrol at a registrar need no such act.\n\n" +
			"A device keeps the key that was registered first: another one takes --replace and a reason, as when its main board was replaced.\n" +
			"A running wardfleet listen takes a file that was exchanged without this verb for what it is: another TPM under the device's name.\n\n" +
			"Exit status: 0 registered, or registered before; 1 another key is registered for the device, or the key is another device's,\n" +
			"or the device is revoked; 2 bad usage or unreadable input.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read attestation key: %w", err)
			}
			registry, err := register.Open(dir)
			if err != nil {
				return err
			}
			act, err := registry.Add(time.Now(), args[0], args[1], key, replace, reason)
			switch {
			case err != nil:
				return refused(err)
			case act == nil:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %s has this key already\n", args[1], args[0])
			default:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s of %s: attestation key %s\n", act.Act, args[1], args[0], act.Key)
			}
			return err
		},
	}
	flags := cmd.Flags()
	devicesFlag(cmd, &dir)
	flags.StringVar(&file, "ak", "", "the public part of the attestation key, `FILE`")
	flags.BoolVar(&replace, "replace", false, "put it in the place of another key")
	flags.StringVar(&reason, "reason", "", "why, one line of `TEXT`")
	required(cmd, "ak")
	return cmd
}

func devicesFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "devices", "", "the folder of the register, `DIR`")
	required(cmd, "devices")
}
