// Package filescan is the verb scan: it has the daemon compare all files with the
// release, or compares a tree itself where there is no daemon.
package filescan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/integrity/scan"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/trust/finding"
)

// result is the verb's JSON.
type result struct {
	localapi.Scan
	Findings []finding.Finding `json:"findings"` // about files, of this boot
}

// New makes the verb.
func New(socket string) *cobra.Command {
	var wait, full, asJSON, offline bool
	var o offlineOptions
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "Have all files compared with the release, or compare a tree without a daemon",
		Long: `Have the daemon compare all files of this device with its signed release, now
rather than at the next scheduled time. The scan keeps to the release's budget and
stands still while a therapy lease is held. With --wait its progress is shown, and
what it found. Files for whose content the kernel vouches (dm-verity, fs-verity) are
not read, unless --full is given.

Where the daemon is dead, --offline compares the tree under --root with a file
baseline, unhurried by a budget, and prints what differs with the paths as they are.
The baseline must be the one that the release manifest names, which is verified with
the keys under --trust; with --release "" it is believed as it is, and this is said.

Exit status: 0 a scan was asked for, or found every file as released, 1 differences,
2 bad usage or a file that cannot be read, 3 the scan did not come to its end, or the
daemon does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case offline && wait:
				return cli.Fail(cli.Usage, "--offline waits by itself: leave out --wait")
			case offline:
				return o.run(cmd, asJSON)
			case o.baseline != "" || o.root != "/":
				return cli.Fail(cli.Usage, "--baseline and --root are for --offline")
			}
			return ask(cmd, localapi.NewClient(socket), socket, full, wait, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&socket, "socket", socket, "the daemon's local `socket`")
	f.BoolVar(&wait, "wait", false, "wait for the end, and say what was found")
	f.BoolVar(&full, "full", false, "read the content of every file, whoever vouches for it")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&offline, "offline", false, "compare a tree here, without the daemon")
	f.StringVar(&o.baseline, "baseline", "", "file baseline `FILE` of the release, for --offline")
	f.StringVar(&o.root, "root", "/", "`DIR` that is the root of the tree, for --offline")
	f.StringVar(&o.release, "release", "/boot/ward/release.dsse", "manifest `FILE` that names the baseline, for --offline")
	f.StringVar(&o.trust, "trust", "/usr/lib/ward/trust", "folder `DIR` of the trust anchors, for --offline")
	f.IntVar(&o.threshold, "threshold", 1, "`N` distinct release keys must have signed, for --offline")
	return cmd
}

// pollEvery is how often the daemon is asked how far it is.
const pollEvery = 500 * time.Millisecond

func ask(cmd *cobra.Command, c *localapi.Client, socket string, full, wait, asJSON bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	s, err := c.AskScan(ctx, full)
	if err != nil {
		return failed(err, socket)
	}
	if !wait {
		if asJSON {
			return cli.JSON(out, result{s, []finding.Finding{}})
		}
		console.Row(out, "Scan", "asked for; wardctl scan --wait shows its progress, wardctl status its outcome")
		return nil
	}
	progress := cmd.ErrOrStderr()
	last := ""
	for target := s.Coming; s.Ended < target; {
		if line := progressLine(s); line != last && !asJSON {
			fmt.Fprintln(progress, line)
			last = line
		}
		select {
		case <-ctx.Done():
			return &cli.Exit{Status: cli.NotDecided, Err: ctx.Err()}
		case <-time.After(pollEvery):
		}
		if s, err = c.Scan(ctx); err != nil {
			return console.Down(err, socket)
		}
		if s.Coming < target { // the daemon was started anew
			return cli.Fail(cli.NotDecided, "the daemon was started anew in the middle of the scan; it goes on by itself: look at wardctl status")
		}
	}
	return told(ctx, out, c, socket, s, asJSON)
}

// told prints what the scan found.
func told(ctx context.Context, out io.Writer, c *localapi.Client, socket string, s localapi.Scan, asJSON bool) error {
	var r scan.Report
	if err := json.Unmarshal(s.Last, &r); err != nil {
		return cli.Fail(cli.NotDecided, "the daemon does not say what the scan found: %w", err)
	}
	status, err := c.Status(ctx)
	if err != nil {
		return console.Down(err, socket)
	}
	found := []finding.Finding{}
	for _, f := range status.Incidents {
		if f.Code.Area() == finding.FileChanged.Area() {
			found = append(found, f)
		}
	}
	if asJSON {
		err = cli.JSON(out, result{s, found})
	} else {
		PrintReport(out, &r)
		console.PrintFindings(out, "Findings about files, of this boot", found)
	}
	if err != nil {
		return err
	}
	return cli.Quiet(exit(&r))
}

func exit(r *scan.Report) int {
	switch r.Verdict {
	case scan.Clean:
		return cli.Good
	case scan.Differs:
		return cli.Findings
	}
	return cli.NotDecided
}

func failed(err error, socket string) error {
	var refusal *localapi.Refusal
	if errors.As(err, &refusal) && refusal.Status == http.StatusForbidden {
		return &cli.Exit{Status: cli.Usage, Err: err}
	}
	if errors.Is(err, localapi.ErrDown) {
		return cli.Fail(cli.NotDecided, "wardd does not answer on %s: start it (systemctl start wardd), or compare without it: wardctl scan --offline --baseline FILE", socket)
	}
	return console.Down(err, socket)
}

func progressLine(s localapi.Scan) string {
	switch s.State {
	case scan.Paused:
		return fmt.Sprintf("%3d %%  paused: a therapy lease is held", s.Percent)
	case scan.Scanning:
		return fmt.Sprintf("%3d %%  %d files, %d MiB  %s", s.Percent, s.Files, s.Bytes>>20, s.Where)
	}
	return "  0 %  begins"
}

// PrintReport prints what a scan has seen.
func PrintReport(w io.Writer, r *scan.Report) {
	words := map[string]string{
		scan.Clean:   "every file is as the release has it",
		scan.Differs: fmt.Sprintf("%d changed, %d missing, %d new, %d not readable", r.Changed, r.Missing, r.New, r.Unreadable),
		scan.Failed:  "it did not come to its end, and judges nothing: " + r.Error,
	}
	console.Row(w, "Scan", "%s", words[r.Verdict])
	console.Row(w, "", "%d files, %d folders, %d others; %d MiB, of which %d MiB were read", r.Files, r.Folders, r.Others, r.Bytes>>20, r.Hashed>>20)
	console.Row(w, "", "content known by hash %d, fs-verity %d, dm-verity %d; free to change %d", r.ByHash, r.ByVerity, r.ByRootHash, r.ByUse)
	if r.NotEntered > 0 {
		console.Row(w, "", "not looked into: %d folders where something else is mounted", r.NotEntered)
	}
	for _, m := range r.Mounts {
		console.Row(w, "", "%s: %s", m.Path, m.Trust)
	}
	console.Row(w, "", "%.1f s, of which therapy held it off %.1f s", r.Seconds, r.PausedSeconds)
}
