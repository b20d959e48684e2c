package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/journal"
	"ward/internal/cli"
	"ward/internal/device/wal"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

func newJournal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Read a device's record without its daemon, also from a copy",
		Long: `Read a device's record without its daemon: the folder on the device
(/var/lib/ward/journal) or a copy of it on any machine. Nothing is changed.`,
	}
	cmd.AddCommand(newJournalVerify(), newJournalShow())
	return cmd
}

// journalReport is what "journal verify --json" prints.
type journalReport struct {
	Epoch     uint64            `json:"epoch"`
	First     uint64            `json:"first"`
	Last      uint64            `json:"last"`
	Records   int               `json:"records"`
	Shed      int               `json:"shed"` // records that lost their content for want of space
	Source    string            `json:"source"`
	Head      chain.Hash        `json:"head"`
	Freshness string            `json:"freshness"`
	Findings  []finding.Finding `json:"findings"`
}

// freshnessUnknown: a consistent older copy cannot be told from the present by
// the copy alone, nor can one that was wholly written anew.
const freshnessUnknown = "unknown: an older copy, or one written anew as a whole, would look the same; compare the head with the fleet's"

func newJournalVerify() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Verify checksums and the chain of a journal",
		Long: `Verify checksums and the chain of a journal: every record is as it was written,
follows the one before it, and comes from one device. Whether newer records once
existed cannot be told from the folder alone.

Exit status: 0 consistent, 1 findings, 2 the folder cannot be read, 3 there is
no journal in it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := verifyJournal(args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				if err := cli.JSON(out, r); err != nil {
					return err
				}
			} else {
				printJournal(out, r)
			}
			if len(r.Findings) > 0 {
				return cli.Quiet(cli.Findings)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printJournal(w io.Writer, r journalReport) {
	console.Row(w, "Journal", "%s, epoch %d", console.OrNothing(r.Source), r.Epoch)
	console.Row(w, "Records", "%d, from %d to %d, %d without content", r.Records, r.First, r.Last, r.Shed)
	console.Row(w, "Head", "%s", r.Head)
	console.Row(w, "Freshness", "%s", r.Freshness)
	console.Row(w, "Result", "%s", journalResult(r.Findings))
	console.PrintFindings(w, "Findings", r.Findings)
}

func journalResult(fs []finding.Finding) string {
	switch {
	case len(fs) == 0:
		return "consistent in itself"
	case finding.Worst(fs) == finding.Info:
		return "consistent in itself up to an unfinished end"
	}
	return "NOT consistent: changed, damaged or incomplete"
}

// verifyJournal reads a journal folder and follows its chain.
func verifyJournal(dir string) (journalReport, error) {
	v, err := readJournal(dir, nil)
	if err != nil {
		return journalReport{}, err
	}
	r := journalReport{
		Epoch: v.Epoch, First: v.First, Last: v.Last, Records: v.Records, Shed: v.Shed, Source: v.Source, Head: v.Head,
		Freshness: freshnessUnknown, Findings: []finding.Finding{},
	}
	if v.Torn != "" {
		r.Findings = append(r.Findings, finding.New(finding.JournalTorn, v.Torn).On(dir))
	}
	for _, p := range v.Problems {
		r.Findings = append(r.Findings, finding.New(finding.JournalCorrupt, p).On(dir))
	}
	if v.Dropped > 0 {
		r.Findings = append(r.Findings, finding.New(finding.JournalCorrupt, fmt.Sprintf("and %d places more", v.Dropped)).On(dir))
	}
	return r, nil
}

// readJournal reads a journal folder, calling each for its records.
func readJournal(dir string, each func(wal.Record) error) (journal.Verification, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", dir)
	}
	if err != nil {
		return journal.Verification{}, cli.Fail(cli.Usage, "%w: name the folder of a journal, such as /var/lib/ward/journal", err)
	}
	v, err := journal.Verify(wal.Dir(dir), each)
	if err != nil {
		return v, cli.Fail(cli.Usage, "%s: %w", dir, err)
	}
	if v.Epoch == 0 && len(v.Problems) == 0 && v.Torn == "" {
		return v, cli.Fail(cli.NotDecided, "%s: there is no journal here (no *.wal file); this is not a pass", dir)
	}
	return v, nil
}

func newJournalShow() *cobra.Command {
	var asJSON bool
	var filter eventFilter
	cmd := &cobra.Command{
		Use:   "show DIR",
		Short: "List the events of a journal",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := filter.fits(event.Decoded{}); err != nil {
				return cli.Fail(cli.Usage, "--severity: %w", err)
			}
			out := cmd.OutOrStdout()
			v, err := readJournal(args[0], func(r wal.Record) error { return showRecord(out, r, filter, asJSON) })
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
