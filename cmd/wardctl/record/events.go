package record

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// page is how many events are asked for at once.
const page = 200

type eventFilter struct {
	severity string
	code     string
}

func (f eventFilter) fits(e event.Decoded) (bool, error) {
	var least finding.Severity
	if f.severity != "" {
		if err := least.UnmarshalText([]byte(f.severity)); err != nil {
			return false, err
		}
	}
	return e.Severity >= least && (f.code == "" || e.Finding != nil && string(e.Finding.Code) == f.code), nil
}

// NewEvents is "wardctl events".
func NewEvents(defaultSocket string) *cobra.Command {
	var socket string
	var asJSON, follow bool
	var after uint64
	var filter eventFilter
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List the events in this device's record",
		Long: `List the events in this device's record, oldest first, as the daemon has them.
With --json each event is one line, byte for byte as the fleet receives it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := filter.fits(event.Decoded{}); err != nil {
				return cli.Fail(cli.Usage, "--severity: %w", err)
			}
			ctx, client := cmd.Context(), localapi.NewClient(socket)
			for first := true; ; first = false {
				var wait time.Duration
				if follow && !first {
					wait = 25 * time.Second
				}
				got, err := client.Events(ctx, after, page, wait)
				if err != nil {
					if follow && ctx.Err() == context.Canceled {
						return nil
					}
					return console.Down(err, socket)
				}
				for _, raw := range got.Events {
					if err := printEvent(cmd.OutOrStdout(), raw, filter, asJSON); err != nil {
						return err
					}
				}
				if got.Next == after && !follow {
					return nil
				}
				after = got.Next
			}
		},
	}
	cmd.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each event as one line of JSON, as it was recorded")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for new events until interrupted")
	cmd.Flags().Uint64Var(&after, "after", 0, "begin behind this `sequence` number")
	cmd.Flags().StringVar(&filter.severity, "severity", "", "only events of at least this `severity`")
	cmd.Flags().StringVar(&filter.code, "code", "", "only events with this finding `code`")
	return cmd
}

func printEvent(w io.Writer, raw json.RawMessage, filter eventFilter, asJSON bool) error {
	e, err := event.Parse(raw)
	if err != nil {
		fmt.Fprintf(w, "unreadable event: %v\n", err)
		return nil
	}
	if ok, err := filter.fits(e); err != nil || !ok {
		return err
	}
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	_, err = fmt.Fprintln(w, Line(e))
	return err
}

// Line is one event on one line: number, time, severity, what.
func Line(e event.Decoded) string {
	what := e.Type
	if text := event.ReportLine(e.Report); text != "" {
		what += ": " + text
	}
	if f := e.Finding; f != nil {
		what = string(f.Code) + console.Where(*f)
		switch {
		case e.Type == event.FindingCleared:
			what = "cleared: " + what
		case e.Type == event.FindingAcknowledged:
			what = "acknowledged: " + what
			if by := event.ReportLine(e.Report); by != "" {
				what += ", " + by
			}
		case f.Detail != "":
			what += ": " + f.Detail
		}

	}
	if e.Repeated != nil {
		what += " (" + e.Repeated.String() + ")"
	}
	return fmt.Sprintf("%6d  %s  %-8s  %s", e.Sequence, e.Time.UTC().Format("2006-01-02 15:04:05.000"), e.Severity, event.Visible(what))
}
