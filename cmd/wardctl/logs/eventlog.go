// Package logs is the verbs that read the firmware's event log and the kernel's
// measurement list from files, on any machine.
package logs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/cli"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/finding"
)

// MaxEventLog bounds the file; firmware gives a log 64 KiB to 1 MiB.
const MaxEventLog = 16 << 20

func NewEventLog() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eventlog",
		Short: "Read the firmware's event log from a file",
		Long: `Read the firmware's event log from a file, on any machine. On a device it is
/sys/kernel/security/tpm0/binary_bios_measurements.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEventLogReplay(), newEventLogShow())
	return cmd
}

const eventLogStatus = `

FILE may be "-" for standard input.

Exit status: 0 nothing is wrong with the log itself, 1 findings, 2 the file is no
event log, 3 the log is empty.`

// replayReport is what "eventlog replay --json" prints.
type replayReport struct {
	Events   int                   `json:"events"`
	Banks    map[string]pcr.Values `json:"banks"` // the registers that were extended
	Findings []finding.Finding     `json:"findings"`
}

func newEventLogReplay() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Compute the PCRs that an event log gives",
		Long: `Compute the PCRs that an event log gives, in every bank that it has digests for,
and say what is wrong with the log itself. Whether the TPM held these values only
the device can tell.` + eventLogStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			log, fs, err := readEventLog(cmd, args[0])
			if err != nil {
				return err
			}
			r := replayReport{Banks: map[string]pcr.Values{}, Findings: fs}
			if log != nil {
				r.Events, r.Banks = len(log.Events), banks(log)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = cli.JSON(out, r)
			} else {
				printReplay(out, r)
			}
			if err != nil {
				return err
			}
			return console.Status(fs, len(r.Banks) > 0)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// readEventLog reads a log and what is wrong with it; without a log there is
// nothing to decide by. The error is for input that cannot be read.
func readEventLog(cmd *cobra.Command, name string) (*eventlog.Log, []finding.Finding, error) {
	in, err := console.OpenInput(cmd, name)
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, MaxEventLog+1))
	if err == nil && len(b) > MaxEventLog {
		err = fmt.Errorf("at offset %d: longer than any event log", MaxEventLog)
	}
	if err != nil {
		return nil, nil, console.Unreadable(name, err)
	}
	log, err := eventlog.Parse(b)
	switch {
	case errors.Is(err, eventlog.ErrEmpty):
		return nil, []finding.Finding{appraisal.EventLogProblem(err)}, nil
	case err != nil:
		return nil, nil, console.Unreadable(name, fmt.Errorf("at offset 0: %w", err))
	}
	fs := slices.Clip(appraisal.EventLogFindings(log))
	if fs == nil {
		fs = []finding.Finding{}
	}
	if len(banks(log)) == 0 {
		fs = append(fs, finding.New(finding.BootNotJudged, "the log has no digests of an algorithm that can be computed here"))
	}
	return log, fs, nil
}

// banks replays every bank that can be computed.
func banks(log *eventlog.Log) map[string]pcr.Values {
	all := make(map[string]pcr.Values)
	for _, a := range log.Algorithms {
		if bank, err := log.Replay(a.Algorithm); err == nil {
			all[a.Algorithm.String()] = bank.Values()
		}
	}
	return all
}

func printReplay(w io.Writer, r replayReport) {
	fmt.Fprintf(w, "%d events\n", r.Events)
	for _, bank := range slices.Sorted(maps.Keys(r.Banks)) {
		fmt.Fprintf(w, "\n%s\n", bank)
		for _, i := range slices.Sorted(maps.Keys(r.Banks[bank])) {
			fmt.Fprintf(w, "  %2d  %s\n", i, r.Banks[bank][i])
		}
	}
	console.PrintFindings(w, "Findings", r.Findings)
}
