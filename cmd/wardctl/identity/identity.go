// Package identity holds the verbs of "wardctl identity": the device's
// certificates, as the daemon has them issued over its local socket (RFC 7030 is
// the daemon's side of it).
package identity

import "github.com/spf13/cobra"

// New is the verb with those beneath it.
func New(defaultSocket string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Enrol the device and renew its certificates",
	}
	cmd.AddCommand(newEnrollOnline(defaultSocket), newRenew(defaultSocket))
	return cmd
}
