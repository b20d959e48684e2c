package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/findings"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
)

const defaultSocket = "/run/ward/wardd.sock"

func newStatus() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how this device is: the verdict on its boot, what is wrong, what to do",
		Long: `Say how this device is: the verdict on its boot, what is wrong and what to do
about it, whether the fleet is reached, and how the record is. The daemon answers
through its local socket; no network is needed.

A condition that was acknowledged (wardctl acknowledge) is marked, and counts as
before: that it was seen mends nothing.

Exit status: 0 nothing is wrong, 1 findings, 3 the boot could not be judged or
the daemon does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := localapi.NewClient(socket)
			s, err := client.Status(cmd.Context())
			if err != nil {
				return console.Down(err, socket)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				if err := cli.JSON(out, s); err != nil {
					return err
				}
			} else {
				findings.Reveal(cmd.Context(), client, &s)
				printStatus(out, s)
			}
			return cli.Quiet(statusExit(s))
		},
	}
	cmd.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func statusExit(s localapi.Status) int {
	switch {
	case s.Verdict.Tier == "contraindicated" || s.Verdict.Tier == "warning" || len(s.Findings)+len(s.Incidents) > 0 && s.Verdict.Tier != "none":
		return cli.Findings
	case s.Verdict.Tier != "affirming":
		return cli.NotDecided
	}
	return cli.Good
}

func printStatus(w io.Writer, s localapi.Status) {
	words, ok := console.VerdictWords[s.Verdict.Tier]
	if !ok {
		words = "unknown verdict; this is not a pass"
	}
	console.Row(w, "Verdict", "%s: %s", strings.ToUpper(s.Verdict.Tier), words)
	if s.Mode == "bring-up" {
		console.Row(w, "", "bring-up mode: everything is reported, nothing is judged")
	}
	if s.Verdict.Reason != "" {
		console.Row(w, "", "%s", s.Verdict.Reason)
	}
	console.Row(w, "Device", "%s of %s, wardd %s, up %s", s.Device, s.Tenant, s.Version, time.Duration(s.UptimeMS*int64(time.Millisecond)).Round(time.Second))
	if s.Release.Verified {
		console.Row(w, "Release", "%s %s for %s, manifest %.16s", s.Release.Product, s.Release.Version, s.Release.Board, s.Release.Digest)
	} else {
		console.Row(w, "Release", "not verified: %s", console.OrNothing(s.Release.Reason))
	}
	console.Row(w, "Seen", "%d events of the boot, %d measured files, %.0f ms after the start", s.Verdict.Events, s.Verdict.IMAEntries, s.Verdict.TookMS+s.Verdict.TPMMS)
	if len(s.Verdict.Claims) > 0 {
		console.Row(w, "", "%s", claims(s.Verdict.Claims))
	}
	console.PrintConditions(w, "Findings", s.Findings)
	console.PrintFindings(w, "Incidents of this boot", s.Incidents)
	fmt.Fprintln(w)
	printLink(w, s.Link)
	printSinks(w, s.Sinks)
	printRecord(w, s.Journal)
	printIdentity(w, s.Identity)
	printUpdate(w, s.Update)
	printVolumes(w, s.Volumes)
	printAccess(w, s.Access, s.Devices)
	if s.Watch.Changes != "" || s.Watch.Missing != "" || len(s.Watch.Programs) > 0 {
		printWatch(w, s.Watch)
	}
	printRoles(w, s.Roles)
	label := "Blind"
	for _, what := range s.Blind {
		console.Row(w, label, "%s", what)
		label = ""
	}
}

func claims(tiers map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(tiers)) {
		parts = append(parts, name+" "+tiers[name])
	}
	return strings.Join(parts, ", ")
}

func printLink(w io.Writer, l localapi.Link) {
	text := l.State
	if l.Broker != "" {
		text += " to " + l.Broker
	}
	if !l.Since.IsZero() {
		text += " since " + moment(l.Since)
	}
	console.Row(w, "Fleet", "%s", text)
	if l.LastReceipt != nil {
		console.Row(w, "", "session %d, last confirmation %s", l.Session, moment(*l.LastReceipt))
	}
	if l.LastEvidence != nil {
		console.Row(w, "", "last evidence %s", moment(*l.LastEvidence))
	}
	if l.DailyBytes > 0 {
		console.Row(w, "", "sent today: %d KiB of %d", l.SentToday>>10, l.DailyBytes>>10)
	}
	if l.Error != "" && l.State != "connected" {
		console.Row(w, "", "%s", l.Error)
	}
}

func printSinks(w io.Writer, sinks []localapi.Sink) {
	for _, s := range sinks {
		console.Row(w, "Sink", "%s: %s since %s, up to record %d, %d behind", s.Name, s.State, moment(s.Since), s.Sent, s.Behind)
		if s.Skipped > 0 {
			console.Row(w, "", "%d events did not get there: the record had let them go", s.Skipped)
		}
		if s.Error != "" {
			console.Row(w, "", "%s", s.Error)
		}
	}
}

func printRecord(w io.Writer, j localapi.Journal) {
	console.Row(w, "Record", "%d events, %d confirmed by the fleet, %d of %d KiB", j.Sequence, j.Acknowledged, j.Bytes>>10, j.MaxBytes>>10)
	if a := j.Anchor; a != nil {
		console.Row(w, "", "%s", anchorLine(j, *a))
	}
	if j.Memory {
		console.Row(w, "", "kept in memory only: it ends with the daemon")
	}
	if j.Lost > 0 {
		console.Row(w, "", "%d events were lost", j.Lost)
	}
	if f := j.Flash; f.Budget > 0 {
		console.Row(w, "", "flash: %d KiB written in %d minutes of today, %d KiB the day before, budget %d MiB a day",
			f.Today>>10, f.ElapsedSeconds/60, f.Before>>10, f.Budget>>20)
	}
	if j.Error != "" {
		console.Row(w, "", "cannot be written: %s", j.Error)
	}
}

// anchorLine says how far the TPM vouches for the record.
func anchorLine(j localapi.Journal, a localapi.Anchor) string {
	text := "not anchored in the TPM"
	if a.Anchored > 0 {
		text = fmt.Sprintf("anchored in the TPM up to record %d, %d behind it", a.Anchored, j.Sequence-min(j.Sequence, a.Anchored))
	}
	if a.Counter != "" {
		text += fmt.Sprintf("; %s counter %d, %s ago", a.Counter, a.Value, (time.Duration(a.AgeMS) * time.Millisecond).Round(time.Second))
	}
	if a.Missing != "" {
		text += "; " + a.Missing
	}
	return text
}

func printIdentity(w io.Writer, id localapi.Identity) {
	if id.State == "" {
		return
	}
	text := id.State
	if id.NotAfter != nil {
		text += ", until " + id.NotAfter.UTC().Format("2006-01-02")
	}
	console.Row(w, "Identity", "%s", text)
	if id.Detail != "" {
		console.Row(w, "", "%s", id.Detail)
	}
}

func printUpdate(w io.Writer, u localapi.Update) {
	if u.State == "" || u.State == "unbound" {
		return
	}
	text := u.State
	if u.Confirmed {
		text += ", confirmed"
	}
	if u.Counter != nil {
		text += fmt.Sprintf(", counter %d of %d", *u.Counter, u.Base+u.Index)
	}
	console.Row(w, "Update", "%s", text)
	if u.Detail != "" && u.State != "current" {
		console.Row(w, "", "%s", u.Detail)
	}
}

// printVolumes tells which encrypted volumes are open; the findings tell why one
// is not.
func printVolumes(w io.Writer, volumes []localapi.Volume) {
	var parts []string
	for _, v := range volumes {
		state := "open"
		if !v.Opened {
			state = "closed (" + v.Cause + ")"
		}
		parts = append(parts, v.Name+" "+state)
	}
	if len(parts) > 0 {
		console.Row(w, "Volumes", "%s", strings.Join(parts, ", "))
	}
}

// printWatch tells what of files and programs is seen as it happens, and what is not.
func printWatch(w io.Writer, seen localapi.Watch) {
	changes := seen.Changes
	if changes == "" {
		changes = "not seen as they happen"
	}
	programs := strings.Join(seen.Programs, " and ")
	if programs == "" {
		programs = "not seen"
	}
	console.Row(w, "Watch", "changes of files: %s; programs: %s", changes, programs)
	if seen.Missing != "" {
		console.Row(w, "", "%s", seen.Missing)
	}
	for _, b := range seen.Blind {
		console.Row(w, "", "not seen: %s (%s): %s", b.Mount, b.Type, b.Reason)
	}
}

// printRoles names the parts of the daemon together by state, and tells of each
// that does not run.
func printRoles(w io.Writer, roles []localapi.Role) {
	byState := map[string][]string{}
	for _, r := range roles {
		byState[r.State] = append(byState[r.State], r.Name)
	}
	label := "Parts"
	for _, state := range slices.Sorted(maps.Keys(byState)) {
		console.Row(w, label, "%s: %s", state, strings.Join(byState[state], ", "))
		label = ""
	}
	for _, r := range roles {
		if r.State != "running" && r.Detail != "" {
			console.Row(w, "", "%s: %s", r.Name, r.Detail)
		}
	}
}

// moment is a time for people, in UTC as in the record.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
