package access

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
)

// NewServiceMode makes the verb service-mode, which asks the daemon on a socket.
func NewServiceMode(defaultSocket string) *cobra.Command {
	var socket, reason string
	var asJSON bool
	var minutes int
	cmd := &cobra.Command{
		Use:   "service-mode",
		Short: "Switch service mode on for a time, or off, or say how it is",
		Long: `Service mode says that a technician works on the device: what the release allows in
service mode alone, such as a keyboard, may be plugged in, and the fleet knows why.
It gives nobody a right. It ends by itself, at the latest after eight hours, and with
the device's next start; its begin and end are recorded. Root and members of the group
that reads Ward's state may switch it.`,
	}
	show := func(cmd *cobra.Command, s localapi.ServiceMode) error {
		if asJSON {
			return cli.JSON(cmd.OutOrStdout(), s)
		}
		return printServiceMode(cmd.OutOrStdout(), s)
	}
	ask := func(cmd *cobra.Command, want localapi.ServiceModeRequest) error {
		s, err := localapi.NewClient(socket).SwitchServiceMode(cmd.Context(), want)
		if err != nil {
			return refused(err, socket)
		}
		return show(cmd, s)
	}
	on := &cobra.Command{
		Use: "on", Short: "Switch service mode on, or on again from now on", Args: cobra.NoArgs,
		Long: `Switch service mode on, or on again from now on, for a time.

Exit status: 0 it is on, 2 the time is not 1 to 480 minutes, or not allowed, 3 the
daemon does not answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, localapi.ServiceModeRequest{On: true, Minutes: minutes, Reason: reason})
		},
	}
	on.Flags().IntVar(&minutes, "minutes", 60, "for how many `minutes`, 480 at most")
	on.Flags().StringVar(&reason, "reason", "", "what it is for; this `text` stays on the device")
	off := &cobra.Command{
		Use: "off", Short: "Switch service mode off", Args: cobra.NoArgs,
		Long: `Switch service mode off.

Exit status: 0 it is off, 2 not allowed, 3 the daemon does not answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return ask(cmd, localapi.ServiceModeRequest{}) },
	}
	status := &cobra.Command{
		Use: "status", Short: "Say whether service mode is on", Args: cobra.NoArgs,
		Long: `Say whether service mode is on, since when, for how long still and what for.

Exit status: 0 it is on or off, 3 the daemon does not answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := localapi.NewClient(socket).Status(cmd.Context())
			if err != nil {
				return refused(err, socket)
			}
			return show(cmd, s.Access.Service)
		},
	}
	for _, c := range []*cobra.Command{on, off, status} {
		c.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
		c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
		cmd.AddCommand(c)
	}
	return cmd
}

func printServiceMode(w io.Writer, s localapi.ServiceMode) error {
	text := "off"
	if s.On {
		text = "on, " + span(s.LeftSeconds) + " left"
		if s.Since != nil {
			text += ", since " + s.Since.UTC().Format(time.DateTime)
		}
		text += " by " + s.By
		if s.Reason != "" {
			text += ": " + s.Reason
		}
	}
	_, err := fmt.Fprintln(w, event.Visible(text))
	return err
}
