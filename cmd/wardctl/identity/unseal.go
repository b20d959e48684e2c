package identity

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/identity/idstore"
	"ward/internal/cli"
	"ward/internal/provision"
)

func newUnseal() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "unseal NAME",
		Short: "Print a sealed secret, if this boot state is approved",
		Long: `Print a secret that was sealed with seal to standard output, byte for byte, as root.
One that is bound to the boot state opens only in a boot state that the policy key
approved for the release (read from the release manifest), and not in a release
that a newer one has locked out.

Exit status: 0 printed, 1 refused (the cause is named), 2 no such secret, 3 the TPM
does not answer or root is needed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			device, err := onsite.Open(cmd, config)
			if err != nil {
				return err
			}
			if err := device.OpenTPM(); err != nil {
				return err
			}
			defer device.Close()
			secret, err := provision.Unseal(cmd.Context(), device.Chip, device.Store, args[0], device.Boot)
			if errors.Is(err, idstore.ErrNone) {
				return noSecret(device, err)
			}
			if err != nil {
				return onsite.Explain(err)
			}
			_, err = cmd.OutOrStdout().Write(secret)
			return err
		},
	}
	onsite.Flag(cmd, &config)
	return cmd
}

// noSecret says which ones there are.
func noSecret(device *onsite.Device, err error) error {
	names, listErr := device.Store.Secrets()
	known := "no secret is stored"
	if len(names) > 0 {
		known = "there are: " + strings.Join(names, ", ")
	}
	return cli.Fail(cli.Usage, "%w: %s", errors.Join(err, listErr), known)
}
