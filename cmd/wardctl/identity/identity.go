// Package identity is the verbs about the device's identity: what it is, how it is
// enrolled and renewed (through the daemon, which speaks RFC 7030, or by files
// where there is no network), whether the fleet takes it, and secrets that are
// sealed beside it.
package identity

import "github.com/spf13/cobra"

// New is the verb with those beneath it.
func New(defaultSocket string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Show this device's identity, enrol and renew it, try it, and keep secrets with it",
	}
	cmd.AddCommand(newShow(), newEnroll(defaultSocket), newRenew(defaultSocket), newVerify(), newSeal(), newUnseal())
	return cmd
}
