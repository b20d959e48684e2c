package identity

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/onsite"
	"ward/internal/cli"
	"ward/internal/device/tpm"
	"ward/internal/provision"
	"ward/internal/trust/policy"
)

// Ways to bind what is sealed.
const (
	bindTPM  = "tpm"
	bindBoot = "boot-state"
)

func newSeal() *cobra.Command {
	var config, bind string
	cmd := &cobra.Command{
		Use:   "seal NAME",
		Short: "Seal a secret from standard input to this TPM and the approved boot state",
		Long: `Seal a secret of 1 to 128 bytes from standard input, as root: for a medical
application that keeps a password or a key on this device. It is stored under the
name, in place of one of the same name, and read again with unseal: in boot states
alone that the policy key approves (--bind boot-state), or by this TPM in every boot
state (--bind tpm).

The input is taken byte for byte: a newline at its end is part of it.

Exit status: 0 sealed, 1 refused, 2 bad usage, 3 the TPM does not answer or root
is needed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			device, err := onsite.Open(cmd, config)
			if err != nil {
				return err
			}
			secret, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), tpm.MaxSealed+1))
			if err != nil {
				return fmt.Errorf("read secret: %w", err)
			}
			if len(secret) == 0 || len(secret) > tpm.MaxSealed {
				return cli.Fail(cli.Usage, "seal %s: want 1 to %d bytes on standard input", args[0], tpm.MaxSealed)
			}
			boot, err := bindings(device, bind)
			if err != nil {
				return err
			}
			if err := device.OpenTPM(); err != nil {
				return err
			}
			defer device.Close()
			if err := provision.SealSecret(cmd.Context(), device.Chip, device.Store, args[0], secret, boot); err != nil {
				return onsite.Explain(err)
			}
			return nil
		},
	}
	onsite.Flag(cmd, &config)
	cmd.Flags().StringVar(&bind, "bind", bindBoot, "seal to the `boot-state`, or to the tpm alone")
	return cmd
}

func bindings(device *onsite.Device, bind string) (*policy.Digest, error) {
	switch bind {
	case bindTPM:
		return nil, nil
	case bindBoot:
		key, err := device.PolicyKey()
		if err != nil {
			return nil, cli.Fail(cli.NotDecided, "%w", err)
		}
		digest := policy.BootPolicy(key)
		return &digest, nil
	}
	return nil, cli.Fail(cli.Usage, "--bind %q: want boot-state or tpm", bind)
}
