package identity

import (
	"github.com/spf13/cobra"

	"ward/internal/agent/localapi"
)

func newEnrollOnline(defaultSocket string) *cobra.Command {
	return issue(defaultSocket, &cobra.Command{
		Use:   "enroll",
		Short: "Have the device enrolled now",
		Long: `Have the daemon enrol the device at the configured registrar now, as root: its TPM
proves itself, and the registrar issues certificates for new keys. The daemon does
so by itself when there is no certificate, or it has expired. What works is kept
until the new identity has connected.

Exit status: 0 enrolled, 1 refused, 2 not allowed, 3 not done yet, or the daemon
does not answer.`,
		Args: cobra.NoArgs,
	}, (*localapi.Client).EnrollIdentity)
}
