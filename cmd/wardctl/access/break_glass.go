package access

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
)

// NewBreakGlass makes the verb break-glass, which asks the daemon on a socket.
func NewBreakGlass(defaultSocket string) *cobra.Command {
	var socket string
	var asJSON bool
	var b localapi.BreakGlass
	cmd := &cobra.Command{
		Use:   "break-glass",
		Short: "Record that somebody was let in without the usual rights",
		Long: `Record an emergency access: which role, and why. It is recorded at once and sent to
the fleet. The person's name, where it is given, stays on the device and is told to root
alone (wardctl break-glass list); role and reason are sent, so name no patient in them.
It hinders nobody and gives nobody a right: host applications report it when they have
let somebody in.

Exit status: 0 recorded, 1 it could not be recorded, and the answer says why, 2 not
allowed, 3 the daemon does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := localapi.NewClient(socket).ReportBreakGlass(cmd.Context(), b)
			if err != nil {
				return refused(err, socket)
			}
			switch {
			case asJSON:
				err = cli.JSON(cmd.OutOrStdout(), a)
			case a.Recorded:
				_, err = fmt.Fprintln(cmd.OutOrStdout(), event.Visible(line("recorded as "+a.ID, a.Detail)))
			}
			if err == nil && !a.Recorded {
				err = &cli.Exit{Status: cli.Findings, Err: errors.New(line("not recorded", a.Detail))}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&b.Role, "role", "", "who was let in, by `role`: nurse, physician, technician")
	cmd.Flags().StringVar(&b.Why, "why", "", "the `reason`, without names")
	cmd.Flags().StringVar(&b.Person, "person", "", "the person's `name`; it stays on the device")
	list := &cobra.Command{
		Use: "list", Short: "List who was let in, by name, as root", Args: cobra.NoArgs,
		Long: `List the emergency accesses that are kept on this device, with the persons' names:
the last 64. The record and the fleet know them by their ids.

Exit status: 0 listed, 2 not allowed, 3 the daemon does not answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			notes, err := localapi.NewClient(socket).BreakGlassNotes(cmd.Context())
			if err != nil {
				return refused(err, socket)
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), localapi.BreakGlassNotes{Notes: notes})
			}
			for _, n := range notes {
				text := fmt.Sprintf("%s  %s  %s, role %q, reason %q, reported by %s", n.ID, n.Time.UTC().Format(time.DateTime), named(n.Person), n.Role, n.Why, n.By)
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), event.Visible(text)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, c := range []*cobra.Command{cmd, list} {
		c.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
		c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	}
	cmd.AddCommand(list)
	return cmd
}

func line(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + ": " + detail
}

func named(person string) string {
	if person == "" {
		return "nobody by name"
	}
	return person
}
