package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
)

func newRenew(defaultSocket string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Have the device's certificates renewed now",
		Long: `Have the daemon renew the device's certificates at the registrar now, with new
keys, as root. It does so by itself from two thirds of their lifetime on. The old
key is kept until the new one has connected.

Exit status: 0 renewed, 1 refused, 2 not allowed, 3 not done yet, or the daemon
does not answer.`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = issue(defaultSocket, cmd, (*localapi.Client).RenewIdentity)
	return cmd
}

// issue is what a command does that has the daemon get certificates.
func issue(defaultSocket string, cmd *cobra.Command, do func(*localapi.Client, context.Context) (localapi.Identity, error)) func(*cobra.Command, []string) error {
	var socket string
	var asJSON bool
	cmd.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return func(cmd *cobra.Command, _ []string) error {
		i, err := do(localapi.NewClient(socket), cmd.Context())
		if err != nil {
			return notIssued(err, socket)
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return cli.JSON(out, i)
		}
		for _, u := range i.Uses {
			line := fmt.Sprintf("%-10s %s", u.Use, u.State)
			if u.NotAfter != nil {
				line += fmt.Sprintf(", generation %d, until %s", u.Generation, u.NotAfter.UTC().Format("2006-01-02"))
			}
			if u.Pending != "" {
				line += ": " + event.Visible(u.Pending)
			}
			fmt.Fprintln(out, line)
		}
		return nil
	}
}

func notIssued(err error, socket string) error {
	var refusal *localapi.Refusal
	if !errors.As(err, &refusal) {
		return &cli.Exit{Status: cli.NotDecided, Err: fmt.Errorf("%w (socket %s)", err, socket)}
	}
	status := cli.NotDecided
	switch refusal.Status {
	case http.StatusConflict:
		status = cli.Findings
	case http.StatusForbidden:
		status = cli.Usage
	}
	return &cli.Exit{Status: status, Err: err}
}
