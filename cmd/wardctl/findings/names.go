package findings

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// NewNames makes the verb names, which asks the daemon on a socket.
func NewNames(defaultSocket string) *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "names [HIDDEN]",
		Short: "Say which file a hidden name stands for, here at the device alone",
		Long: `Say which file a hidden name stands for. A path that the release does not name
may hold a patient's name: it leaves the device as the folder that the release
names and 12 digits, /data/~0123456789ab. The device keeps the clear names of the
last 1024 of them; with none given, all are listed, the newest first. What is
printed here must not be sent elsewhere without a thought.

Exit status: 0 told, 1 the name is not known (any more), 2 not allowed, 3 the
daemon does not answer.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			hidden := ""
			if len(args) == 1 {
				hidden = args[0]
			}
			all, err := localapi.NewClient(socket).Names(cmd.Context(), hidden)
			if err != nil {
				return console.Down(err, socket)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = cli.JSON(out, all)
			} else {
				for _, n := range all {
					if _, err = fmt.Fprintf(out, "%s  %s\n", event.Visible(n.Hidden), event.Visible(n.Path)); err != nil {
						break
					}
				}
			}
			if err != nil {
				return err
			}
			if hidden != "" && len(all) == 0 {
				return cli.Fail(cli.Findings, "%s is not known here (any more)", event.Visible(hidden))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// Reveal puts the clear names beside the hidden ones of what a device says of
// itself. Without an answer they stay hidden.
func Reveal(ctx context.Context, c *localapi.Client, s *localapi.Status) {
	all, err := c.Names(ctx, "")
	if err != nil || len(all) == 0 {
		return
	}
	clear := make(map[string]string, len(all))
	for _, n := range all {
		clear[n.Hidden] = n.Path
	}
	reveal := func(f *finding.Finding) {
		if path, ok := clear[f.Path[strings.LastIndexByte(f.Path, '/')+1:]]; ok && f.Path != "" {
			f.Path += ", here " + path
		}
	}
	for i := range s.Findings {
		reveal(&s.Findings[i].Finding)
	}
	for i := range s.Incidents {
		reveal(&s.Incidents[i])
	}
}
