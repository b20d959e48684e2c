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
		Short: "The devices' attestation keys",
		Long:  "The devices' attestation keys, with which wardfleet listen --devices tells who signed evidence.",
	}
	cmd.AddCommand(newDevicesAdd())
	return cmd
}

func newDevicesAdd() *cobra.Command {
	var dir, file, reason string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add TENANT DEVICE --devices DIR --ak FILE [--replace --reason TEXT]",
		Short: "Register a device's attestation key",
		Long: "Register a device's attestation key, the public part: PEM or DER of a public key or certificate, or TPM2B_PUBLIC.\n" +
			"It is kept as DIR/TENANT/DEVICE.ak.pem, and the act as a line of DIR/acts.jsonl.\n\n" +
			"A device keeps the key that was registered first: another one takes --replace and a reason, as when its main board was replaced.\n" +
			"A running wardfleet listen takes a file that was exchanged without this verb for what it is: another TPM under the device's name.\n\n" +
			"Exit status: 0 registered, or registered before; 1 another key is registered for the device, or the key is another device's;\n" +
			"2 bad usage or unreadable input.",
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
			case errors.Is(err, register.ErrOtherKey), errors.Is(err, register.ErrTaken):
				return cli.Fail(cli.Findings, "%w", err)
			case err != nil:
				return err
			case act == nil:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %s has this key already\n", args[1], args[0])
			default:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s of %s: attestation key %s\n", act.Act, args[1], args[0], act.Key)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "devices", "", "the folder of the keys, `DIR`")
	flags.StringVar(&file, "ak", "", "the public part of the attestation key, `FILE`")
	flags.BoolVar(&replace, "replace", false, "put it in the place of another key")
	flags.StringVar(&reason, "reason", "", "why, one line of `TEXT`")
	for _, name := range []string{"devices", "ak"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}
