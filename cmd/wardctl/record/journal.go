// Package record holds the verbs that read a device's record: its events, from the
// daemon, and its journal, from a folder without the daemon.
package record

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ward/internal/agent/journal/audit"
	"ward/internal/cli"
	"ward/internal/device/wal"
	"ward/internal/trust/event"
)

// NewJournal is "wardctl journal".
func NewJournal(defaultSocket string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Read a device's record without its daemon, also from a copy",
		Long: `Read a device's record without its daemon: the folder on the device
(/var/lib/ward/journal), a copy of it, or an export, on any machine. Nothing is
changed. "anchor" alone asks the daemon.`,
	}
	cmd.AddCommand(newJournalVerify(), newJournalShow(), newJournalTail(), newJournalExport(), newJournalAnchor(defaultSocket))
	return cmd
}

// readJournal reads a journal, calling each for its records.
func readJournal(name string, against audit.Against, each func(wal.Record) error) (audit.Verification, error) {
	fs, done, err := openJournalCopy(name)
	if err != nil {
		return audit.Verification{}, err
	}
	defer done()
	v, err := audit.VerifyAgainst(fs, against, each)
	if err != nil {
		return v, cli.Fail(cli.Usage, "%s: %w", name, err)
	}
	if v.Epoch == 0 && len(v.Problems) == 0 && v.Torn == "" {
		return v, cli.Fail(cli.NotDecided, "%s: there is no journal here (no *.wal file); this is not a pass", name)
	}
	return v, nil
}

func newJournalShow() *cobra.Command {
	var asJSON bool
	var filter eventFilter
	cmd := &cobra.Command{
		Use:   "show DIR|FILE",
		Short: "List the events of a journal",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := filter.fits(event.Decoded{}); err != nil {
				return cli.Fail(cli.Usage, "--severity: %w", err)
			}
			out := cmd.OutOrStdout()
			v, err := readJournal(args[0], audit.Against{}, func(r wal.Record) error { return showRecord(out, r, filter, asJSON) })
			if err != nil {
				return err
			}
			if len(v.Problems) > 0 {
				return cli.Fail(cli.Findings, "%s: %s; 'wardctl journal verify' tells more", args[0], v.Problems[0])
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each event as one line of JSON, as it was recorded")
	cmd.Flags().StringVar(&filter.severity, "severity", "", "only events of at least this `severity`")
	cmd.Flags().StringVar(&filter.code, "code", "", "only events with this finding `code`")
	return cmd
}

func showRecord(w io.Writer, r wal.Record, filter eventFilter, asJSON bool) error {
	if r.Kind == wal.Stub {
		if !asJSON && filter == (eventFilter{}) {
			fmt.Fprintf(w, "%6d  content lost for want of space, hash %x\n", r.Sequence, r.Payload)
		}
		return nil
	}
	return printEvent(w, r.Payload, filter, asJSON)
}
