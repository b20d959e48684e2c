package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/attester"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

func newUpdate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Say whether a release may be installed, and confirm the one that runs",
	}
	cmd.AddCommand(newUpdateCheck(), newUpdateConfirm())
	return cmd
}

func newUpdateConfirm() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Mark the running release good: older releases are locked out",
		Long: `Mark the slot of the running release good, as root. The updater's hook calls it
when the device has proven itself (docs/update.md). The daemon keeps it, and moves
the TPM's anti-rollback counter up to the running release as soon as the verdict
on this boot is affirming and the TPM answers. From then on older releases open
neither keys nor secrets that are bound to the boot state; this cannot be undone.
It may be repeated.

Exit status: 0 confirmed, 1 refused or locked out, 2 not allowed, 3 the boot has
not been appraised yet, or the daemon does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := localapi.NewClient(socket).ConfirmUpdate(cmd.Context())
			if err != nil {
				return confirmFailed(err, socket)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				if err := cli.JSON(out, u); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(out, confirmed(u))
			}
			if u.State == release.GateLockedOut.String() || u.State == release.GateForeign.String() {
				return cli.Quiet(cli.Findings)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "socket", defaultSocket, "the daemon's local `socket`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func confirmFailed(err error, socket string) error {
	var refusal *localapi.Refusal
	if !errors.As(err, &refusal) {
		return console.Down(err, socket)
	}
	status := cli.NotDecided
	switch refusal.Status {
	case http.StatusConflict:
		status = cli.Findings
	case http.StatusForbidden:
		status = cli.Usage
	}
	return &cli.Exit{Status: status, Err: err}
}

func confirmed(u localapi.Update) string {
	if u.State == release.GateCurrent.String() {
		return "confirmed: " + event.Visible(u.Detail) + "; older releases are locked out"
	}
	if u.State == release.GateOpen.String() {
		return "confirmed; the TPM does not answer as it should, and wardd moves the counter when it does"
	}
	return "confirmed, and the counter stays where it is: " + event.Visible(u.Detail)
}

// checked is the result of check; its JSON is the verb's output.
type checked struct {
	May      bool              `json:"may"`
	Reason   string            `json:"reason,omitempty"` // why not
	Running  *checkedRelease   `json:"running,omitempty"`
	Next     *checkedRelease   `json:"next,omitempty"`
	Findings []finding.Finding `json:"findings"`
}

type checkedRelease struct {
	Product       string `json:"product"`
	Board         string `json:"board"`
	Version       string `json:"version"`
	RollbackIndex uint64 `json:"rollbackIndex"`
	Digest        string `json:"digest"`
}

func newUpdateCheck() *cobra.Command {
	var running, trust string
	var threshold int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check NEXT.dsse",
		Short: "Say whether a release may take the place of the running one",
		Long: `Say whether a release may take the place of the running one: both are verified
with the device's release keys; it must be for the same product and board, its
rollback index not below the running one's, its identity policy by the same policy
key, and its own rules must admit the running release. The daemon is not needed.

Exit status: 0 it may, 1 it may not (the reason is printed), 2 a file cannot be
read, 3 the running release cannot be verified.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if threshold < 1 {
				return cli.Fail(cli.Usage, "--threshold %d: want at least 1", threshold)
			}
			c, status := check(running, args[0], trust, threshold)
			out := cmd.OutOrStdout()
			if asJSON {
				if err := cli.JSON(out, c); err != nil {
					return err
				}
			} else {
				c.print(out)
			}
			return cli.Quiet(status)
		},
	}
	cmd.Flags().StringVar(&running, "running", "/boot/ward/release.dsse", "manifest `FILE` of the running release")
	cmd.Flags().StringVar(&trust, "trust", "/usr/lib/ward/trust", "folder `DIR` of the trust anchors")
	cmd.Flags().IntVar(&threshold, "threshold", 1, "`N` distinct release keys must have signed each")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func check(running, next, trust string, threshold int) (checked, int) {
	c := checked{Findings: []finding.Finding{}}
	now, found := attester.LoadRelease(running, trust, threshold)
	if now == nil {
		c.Findings, c.Reason = found, "the running release cannot be verified"
		return c, cli.NotDecided
	}
	c.Running = described(now)
	then, found := attester.LoadRelease(next, trust, threshold)
	if then == nil {
		c.Findings, c.Reason = found, "it cannot be verified"
		if found[0].Code == finding.ReleaseMissing {
			return c, cli.Usage
		}
		return c, cli.Findings
	}
	c.Next = described(then)
	if c.May, c.Reason = release.MayInstall(now, then); !c.May {
		return c, cli.Findings
	}
	return c, cli.Good
}

func described(r *release.Verified) *checkedRelease {
	m := r.Manifest()
	return &checkedRelease{m.Product, m.Board, m.Version, m.RollbackIndex, release.Digest(r.Digest()).String()}
}

func (c checked) print(w io.Writer) {
	for _, r := range []struct {
		label string
		r     *checkedRelease
	}{{"Running", c.Running}, {"Next", c.Next}} {
		if r.r != nil {
			console.Row(w, r.label, "%s %s for %s, rollback index %d, manifest %.16s", r.r.Product, r.r.Version, r.r.Board, r.r.RollbackIndex, r.r.Digest)
		}
	}
	if c.May {
		console.Row(w, "Update", "may be installed")
	} else {
		console.Row(w, "Update", "may not be installed: %s", c.Reason)
	}
	console.PrintFindings(w, "Findings", c.Findings)
}
