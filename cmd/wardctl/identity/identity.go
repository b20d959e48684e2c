// Package identity is the verbs about the device's identity: what it is, how it is
// enrolled and renewed, with a network (the daemon's doing, over its local socket)
// and without one, whether the fleet takes it, and secrets that are sealed beside
// it.
package identity

import "github.com/spf13/cobra"

// New makes the verb identity.
func New(defaultSocket string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Show this device's identity, enrol and renew it, try it, and keep secrets with it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newShow(), newEnroll(defaultSocket), newRenew(defaultSocket), newVerify(), newSeal(), newUnseal())
	return cmd
}
