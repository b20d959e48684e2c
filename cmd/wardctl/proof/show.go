package proof

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/cli"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/posture"
	"ward/internal/trust/quote"
)

// evidenceReport is what "evidence show --json" prints. Nothing in it was
// verified.
type evidenceReport struct {
	Tenant         string            `json:"tenant"`
	Device         string            `json:"device"`
	Boot           string            `json:"boot"`
	Time           *time.Time        `json:"time,omitempty"`
	Nonce          pcr.Digest        `json:"nonce"`
	Epoch          uint64            `json:"epoch"`
	Sequence       uint64            `json:"sequence"`
	Head           string            `json:"head"`
	Qualifying     pcr.Digest        `json:"qualifying"` // what the quotes must answer, of nonce, head and claims
	Release        pcr.Digest        `json:"release"`
	SBOM           pcr.Digest        `json:"sbom"`
	Bank           string            `json:"bank"`
	PCRs           pcr.Values        `json:"pcrs"`
	BootQuote      quoteReport       `json:"bootQuote"`
	ListQuote      quoteReport       `json:"listQuote"`
	Errors         map[string]string `json:"errors"`
	EventLogBytes  int               `json:"eventLogBytes"`
	EventLogDigest pcr.Digest        `json:"eventLogDigest"`
	UserLogBytes   int               `json:"userLogBytes"`
	From           ima.Checkpoint    `json:"from"`
	IMABytes       int               `json:"imaBytes"`
	IMATruncated   bool              `json:"imaTruncated"`
	Claims         pcr.Digest        `json:"claims"` // digest of posture and running components, which the quotes sign
	Posture        []posture.Claim   `json:"posture"`
	RunningBytes   int               `json:"runningBytes"`
}

type quoteReport struct {
	Attest    pcr.Digest `json:"attest"`
	Signature pcr.Digest `json:"signature"`
	PCRs      []int      `json:"pcrs"`
}

func newEvidenceShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show what an evidence file holds, without verifying it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := readEvidence(cmd, args[0])
			if err != nil {
				return err
			}
			r := newEvidenceReport(e)
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), r)
			}
			printEvidence(cmd.OutOrStdout(), r)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with all fields but the logs")
	return cmd
}

func newEvidenceReport(e evidence.Evidence) evidenceReport {
	claims, question := e.Claims(), quote.Qualifying(e.Nonce, e.Record.Head, e.Claims())
	r := evidenceReport{
		Tenant: e.Tenant, Device: e.Device, Boot: e.Boot, Nonce: e.Nonce, Epoch: e.Record.Epoch, Sequence: e.Record.Sequence,
		Head: e.Record.Head.String(), Qualifying: question[:], Release: e.Release, SBOM: e.SBOM, Bank: e.Bank.String(), PCRs: e.PCRs,
		BootQuote: newQuoteReport(e.BootQuote), ListQuote: newQuoteReport(e.ListQuote), Errors: make(map[string]string),
		EventLogBytes: len(e.EventLog), EventLogDigest: e.EventLogDigest, UserLogBytes: len(e.UserLog),
		From: e.From, IMABytes: len(e.IMA), IMATruncated: e.IMATruncated,
		Claims: claims[:], Posture: e.Posture, RunningBytes: len(e.Running),
	}
	if !e.Time.IsZero() {
		r.Time = &e.Time
	}
	for name, why := range map[string]string{"pcrs": e.PCRError, "quotes": e.QuoteError, "eventLog": e.EventLogError, "userLog": e.UserLogError, "ima": e.IMAError} {
		if why != "" {
			r.Errors[name] = why
		}
	}
	return r
}

func newQuoteReport(q evidence.Quote) quoteReport {
	r := quoteReport{Attest: q.Attest, Signature: q.Signature}
	if _, registers, err := quote.Untrusted(quote.Quote(q)); err == nil {
		r.PCRs = registers
	}
	return r
}

func printEvidence(w io.Writer, r evidenceReport) {
	console.Row(w, "Device", "%s of %s, boot %s", console.OrNothing(r.Device), console.OrNothing(r.Tenant), console.OrNothing(r.Boot))
	if r.Time != nil {
		console.Row(w, "Collected", "%s by the device's clock", r.Time.Format(time.RFC3339))
	}
	console.Row(w, "Nonce", "%s", console.OrNothing(r.Nonce.String()))
	console.Row(w, "Record", "epoch %d, record %d, head %s", r.Epoch, r.Sequence, r.Head)
	console.Row(w, "Release", "%s", console.OrNothing(r.Release.String()))
	console.Row(w, "Quotes", "PCR %v, and PCR %v", r.BootQuote.PCRs, r.ListQuote.PCRs)
	console.Row(w, "Event log", "%d bytes%s", r.EventLogBytes, sentBefore(r.EventLogDigest))
	console.Row(w, "User log", "%d bytes", r.UserLogBytes)
	console.Row(w, "List", "%d bytes, after %d entries", r.IMABytes, r.From.Entries)
	console.Row(w, "Running", "%d bytes", r.RunningBytes)
	for _, name := range slices.Sorted(maps.Keys(r.Errors)) {
		console.Row(w, "Missing", "%s: %s", name, r.Errors[name])
	}
	if len(r.Posture) > 0 {
		fmt.Fprintf(w, "\nposture, as the device says\n")
		for _, c := range r.Posture {
			fmt.Fprintf(w, "  %s\n", claimLine(c))
		}
	}
	fmt.Fprintf(w, "\n%s, not verified\n", r.Bank)
	for _, n := range slices.Sorted(maps.Keys(r.PCRs)) {
		fmt.Fprintf(w, "  %2d  %s\n", n, r.PCRs[n])
	}
}

// shownValues bounds how many values of a claim stand on its line.
const shownValues = 8

// claimLine is a claim on one line.
func claimLine(c posture.Claim) string {
	switch {
	case c.Error != "":
		return c.Name + ": not read: " + c.Error
	case c.Absent:
		return c.Name + ": not there"
	}
	shown := min(len(c.Values), shownValues)
	line := c.Name + ": " + strings.Join(c.Values[:shown], ", ")
	if more := len(c.Values) - shown + c.More; more > 0 {
		line += fmt.Sprintf(" and %d more", more)
	}
	return line
}

func sentBefore(digest pcr.Digest) string {
	if len(digest) == 0 {
		return ""
	}
	return ", sent before, SHA-256 " + digest.String()
}

type part struct {
	name    string
	content []byte
}

// parts are the files that "evidence extract" writes.
func parts(e evidence.Evidence) []part {
	list := []part{
		{"eventlog.bin", e.EventLog}, {"userlog.json", e.UserLog}, {"ima.bin", e.IMA},
		{"boot.msg", e.BootQuote.Attest}, {"boot.sig", e.BootQuote.Signature}, {"boot.pcrs", checkquoteFile(e, e.BootQuote)},
		{"list.msg", e.ListQuote.Attest}, {"list.sig", e.ListQuote.Signature}, {"list.pcrs", checkquoteFile(e, e.ListQuote)},
	}
	if len(e.PCRs) > 0 {
		if b, err := json.MarshalIndent(map[string]pcr.Values{e.Bank.String(): e.PCRs}, "", "  "); err == nil {
			list = append(list, part{"pcrs.json", append(b, '\n')})
		}
	}
	return list
}
