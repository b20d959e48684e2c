package findings

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// NewAcknowledge makes the verb acknowledge, which asks the daemon on a socket.
func NewAcknowledge(defaultSocket string) *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "acknowledge CODE [SUBJECT]",
		Aliases: []string{"ack"},
		Short:   "Say that a condition was seen; the record keeps who said so by role",
		Long: `Say that the conditions of a code were seen: those about a subject, as status
names it, or all. That is recorded and sent to the fleet, with the role of who
said so (root, or service: a member of the group that may read Ward's state) and
no person's name. A condition that is acknowledged holds on and counts as before,
until it is cleared; one that comes back, or that a daemon finds anew after its
start, is to be acknowledged anew. What is acknowledged already stays so.
Incidents are not acknowledged: they only happened.

Exit status: 0 acknowledged, 1 no such condition holds, 2 there is no such code,
or not allowed, 3 the daemon does not answer.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			subject := ""
			if len(args) == 2 {
				subject = args[1]
			}
			cs, err := localapi.NewClient(socket).Acknowledge(cmd.Context(), finding.Code(args[0]), subject)
			if err != nil {
				return notAcknowledged(err, socket)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return cli.JSON(out, localapi.Acknowledged{Conditions: cs})
			}
			for _, c := range cs {
				text := "acknowledged: " + string(c.Code)
				if c.Subject != "" {
					text += ", about " + c.Subject
				}
				if a := c.Acknowledged; a != nil {
					text += ", " + a.Time.UTC().Format("2006-01-02 15:04:05") + " by " + a.By + " before"
				}
				if _, err := fmt.Fprintln(out, event.Visible(text)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func notAcknowledged(err error, socket string) error {
	var refusal *localapi.Refusal
	if !errors.As(err, &refusal) {
		return console.Down(err, socket)
	}
	status := cli.NotDecided
	switch refusal.Status {
	case http.StatusConflict:
		status = cli.Findings
	case http.StatusForbidden, http.StatusBadRequest:
		status = cli.Usage
	}
	return &cli.Exit{Status: status, Err: err}
}
