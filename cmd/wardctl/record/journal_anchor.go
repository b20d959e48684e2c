package record

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
)

func newJournalAnchor(defaultSocket string) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "anchor",
		Short: "Have the TPM certify the record up to now, and print the checkpoint",
		Long: `Have the TPM certify the record up to now, and print the checkpoint as one line of
JSON, as it was recorded. Kept elsewhere, it shows later that a copy of the record is
not older: 'wardctl journal verify DIR --ak FILE --anchor FILE'. The daemon takes one
in 10 seconds at most.

Exit status: 0 good, 3 none could be taken or the daemon does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			record, err := localapi.NewClient(socket).TakeCheckpoint(cmd.Context())
			if refusal := (*localapi.Refusal)(nil); errors.As(err, &refusal) {
				return cli.Fail(cli.NotDecided, "%s", refusal.Reason)
			}
			if err != nil {
				return console.Down(err, socket)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", record)
			return err
		},
	}
	cmd.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	return cmd
}
