package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/internal/cli"
	"ward/internal/format/dsse"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/finding"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

func newExplain() *cobra.Command {
	var log, measured string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain MANIFEST|PROFILE --eventlog FILE",
		Short: "Show the difference between a predicted boot and a measured one, event by event",
		Long: "Compare a boot with what a release manifest (signed or not; signatures are not verified) or a firmware profile says of it, as the device does, and name each event that is missing, inserted or replaced, register by register.\n" +
			"Exit status: 0 the same, 1 it differs, 2 something cannot be read, 3 nothing can be decided.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			boot, err := readBoot(args[0])
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			text, err := disk.Read(log, disk.MaxEventLog)
			if err != nil {
				return err
			}
			if _, err := eventlog.Parse(text); err != nil && !errors.Is(err, eventlog.ErrEmpty) {
				return fmt.Errorf("%s: %w", log, err)
			}
			var registers pcr.Values
			if measured != "" {
				if registers, err = readMeasured(measured); err != nil {
					return err
				}
			}
			result := newExplanation(boot, appraisal.Explain(boot, text, registers))
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout(), result)
			} else {
				err = result.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return cli.Quiet(result.status())
		},
	}
	cmd.Flags().StringVar(&log, "eventlog", "", "event log `FILE` of the boot")
	cmd.Flags().StringVar(&measured, "pcrs", "", "registers of the same boot, JSON `FILE` {\"sha256\":{\"0\":\"hex\"}}; without it the log is taken at its word")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	cmd.MarkFlagRequired("eventlog")
	return cmd
}

// readBoot reads what is expected of a boot: from a signed manifest, an unsigned
// one, or a firmware profile.
func readBoot(name string) (release.Boot, error) {
	text, err := disk.Read(name, profile.MaxSize)
	if err != nil {
		return release.Boot{}, err
	}
	var kind struct {
		PayloadType, Product, Firmware json.RawMessage
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return release.Boot{}, fmt.Errorf("parse JSON: %w", err)
	}
	switch {
	case kind.Firmware != nil:
		p, err := profile.Parse(text)
		if err != nil {
			return release.Boot{}, err
		}
		return profile.Assemble([]profile.Profile{p}, profile.RulesOf(p))
	case kind.PayloadType != nil:
		e, err := dsse.Parse(text)
		if err != nil {
			return release.Boot{}, err
		}
		text = e.UntrustedPayload
	}
	m, err := release.Parse(text)
	return m.Boot, err
}

// explanation is the verb's JSON.
type explanation struct {
	Verdict     appraisal.Tier              `json:"verdict"`
	Firmware    string                      `json:"firmware"` // the accepted one that the registers fit best
	PCRs        map[int]registerExplanation `json:"pcrs"`     // the judged ones
	Differences []difference                `json:"differences"`
	Findings    []finding.Finding           `json:"findings"`
}

type registerExplanation struct {
	State    appraisal.State `json:"state"`
	Expected pcr.Digest      `json:"expected,omitempty"`
	Found    pcr.Digest      `json:"found,omitempty"`
}

// difference is one event that is not as expected.
type difference struct {
	PCR      int    `json:"pcr"`
	Kind     string `json:"kind"`            // missing, inserted, replaced
	Index    *int   `json:"index,omitempty"` // in the log
	Expected string `json:"expected,omitempty"`
	Found    string `json:"found,omitempty"`
	Detail   string `json:"detail"`
}

func newExplanation(boot release.Boot, r appraisal.Result) *explanation {
	x := &explanation{Verdict: r.Verdict, Firmware: r.Firmware, PCRs: make(map[int]registerExplanation), Differences: []difference{}, Findings: r.Findings}
	if x.Findings == nil {
		x.Findings = []finding.Finding{}
	}
	for n, ref := range boot.PCRs {
		if !ref.Judged() {
			continue
		}
		p := r.PCRs[n]
		want, _ := ref.Of(r.Firmware)
		x.PCRs[n] = registerExplanation{State: p.State, Expected: want.Digest, Found: p.Measured}
	}
	for _, f := range r.Findings {
		if f.PCR == nil {
			continue
		}
		d := difference{PCR: *f.PCR, Index: f.Index, Expected: f.Expected, Found: f.Found, Detail: f.Detail}
		switch {
		case f.Code == finding.BootEventMissing:
			d.Kind = "missing"
		case f.Code != finding.BootEventUnexpected:
			continue
		case f.Expected == "":
			d.Kind = "inserted"
		default:
			d.Kind = "replaced"
		}
		x.Differences = append(x.Differences, d)
	}
	return x
}

// status is the exit status.
func (x *explanation) status() int {
	truncated := slices.ContainsFunc(x.Findings, func(f finding.Finding) bool { return f.Code == finding.BootLogTruncated })
	switch {
	case x.Verdict == appraisal.Affirming:
		return cli.Good
	case x.Verdict == appraisal.None && !truncated:
		return cli.NotDecided
	}
	return cli.Findings
}

func (x *explanation) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "firmware %s\n\nPCR\tSTATE\tEXPECTED\tFOUND\n", x.Firmware)
	for _, n := range slices.Sorted(maps.Keys(x.PCRs)) {
		p := x.PCRs[n]
		found := p.Found.String()
		if found == p.Expected.String() {
			found = "the same"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", n, p.State, p.Expected, found)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, d := range x.Differences {
		fmt.Fprintf(w, "\nPCR %d, %s", d.PCR, d.Kind)
		if d.Index != nil {
			fmt.Fprintf(w, ": event %d of the log", *d.Index)
		}
		fmt.Fprintln(w)
		for _, l := range [][2]string{{"expected", d.Expected}, {"found", d.Found}, {"", d.Detail}} {
			if l[1] != "" {
				fmt.Fprintf(w, "  %-9s %s\n", l[0], l[1])
			}
		}
	}
	for _, f := range x.Findings {
		if f.Code == finding.BootEventMissing || f.Code == finding.BootEventUnexpected || f.Code == finding.BootPCRDiffers {
			continue
		}
		fmt.Fprintf(w, "\n%s  %s  %s\n", strings.ToUpper(f.Severity.String()), f.Code, f.Detail)
	}
	return nil
}
