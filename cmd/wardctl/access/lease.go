package access

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
)

// NewLease makes the verb lease, which asks the daemon on a socket.
func NewLease(defaultSocket string) *cobra.Command {
	var socket, holder string
	var asJSON bool
	var seconds int64
	cmd := &cobra.Command{
		Use:   "lease",
		Short: "Say who holds heavy work off for therapy; take or end a lease for a test",
		Long: `While a host application holds a therapy lease, heavy work of the daemon waits. Each
lease ends by itself, at the latest after the time that the release allows, unless its
holder renews it.`,
	}
	status := &cobra.Command{
		Use: "status", Short: "List the leases that are held", Args: cobra.NoArgs,
		Long: `List the leases that are held: by whom, since when, for how long still.

Exit status: 0 listed, 3 the daemon does not answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := localapi.NewClient(socket).Status(cmd.Context())
			if err != nil {
				return refused(err, socket)
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), struct {
					Leases []localapi.Lease `json:"leases"`
				}{s.Access.Leases})
			}
			if len(s.Access.Leases) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "no lease is held")
			}
			for _, l := range s.Access.Leases {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), event.Visible(fmt.Sprintf("%s: held for %s by user %d, %s left", l.Holder, span(l.HeldSeconds), l.User, span(l.LeftSeconds))))
			}
			return err
		},
	}
	take := &cobra.Command{
		Use: "take", Short: "Take or renew a lease, for a test", Args: cobra.NoArgs,
		Long: `Take a lease, or renew it: a therapy that does not exist, for a test.

Exit status: 0 it is held, 1 another user holds it or there are too many, 2 the request
is wrong or not allowed, 3 the daemon does not answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			granted, err := localapi.NewClient(socket).TakeLease(cmd.Context(), holder, time.Duration(seconds)*time.Second)
			if err != nil {
				return refused(err, socket)
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), map[string]int64{"seconds": int64(granted / time.Second)})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s holds a lease for %s\n", event.Visible(holder), granted)
			return err
		},
	}
	take.Flags().Int64Var(&seconds, "seconds", 60, "for how many `seconds`")
	end := &cobra.Command{
		Use: "end", Short: "End a lease", Args: cobra.NoArgs,
		Long: `End a lease that the same user took; root may end any.

Exit status: 0 ended, 1 nobody of this name holds one, or another user, 2 not allowed,
3 the daemon does not answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := localapi.NewClient(socket).EndLease(cmd.Context(), holder); err != nil {
				return refused(err, socket)
			}
			return nil
		},
	}
	for _, c := range []*cobra.Command{take, end} {
		c.Flags().StringVar(&holder, "holder", "wardctl", "the holder's `name`: a-z, 0-9, '.', '_', '-'")
	}
	for _, c := range []*cobra.Command{status, take, end} {
		c.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	}
	for _, c := range []*cobra.Command{status, take} {
		c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	}
	cmd.AddCommand(status, take, end)
	return cmd
}
