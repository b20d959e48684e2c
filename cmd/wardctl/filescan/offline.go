package filescan

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/attester"
	"ward/internal/agent/integrity/scan"
	"ward/internal/cli"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/finding"
)

// maxFound bounds the findings that are printed one by one; the counts are of all.
const maxFound = 1000

type offlineOptions struct {
	baseline, root, release, trust string
	threshold                      int
}

// compared is the JSON of an offline scan.
type compared struct {
	scan.Report
	Verified bool              `json:"verified"` // the baseline is the one that a verified release names
	Findings []finding.Finding `json:"findings"`
	Unlisted int               `json:"unlisted"` // findings beyond those
}

func (o *offlineOptions) run(cmd *cobra.Command, asJSON bool) error {
	if o.baseline == "" {
		return cli.Fail(cli.Usage, "--offline needs --baseline FILE")
	}
	files, verified, found, err := o.load()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	c := compared{Findings: found, Verified: verified}
	if files == nil {
		c.Verdict, c.Error = scan.Failed, "there is no file baseline that can be trusted"
	} else if err := c.compare(files, o.root); err != nil {
		return err
	}
	if asJSON {
		if err := cli.JSON(out, c); err != nil {
			return err
		}
	} else {
		PrintReport(out, &c.Report)
		if !c.Verified {
			console.Row(out, "", "the baseline was not verified: this judges nothing against a release")
		}
		console.PrintFindings(out, "Findings", c.Findings)
		if c.Unlisted > 0 {
			fmt.Fprintf(out, "and %d more\n", c.Unlisted)
		}
	}
	return cli.Quiet(exit(&c.Report))
}

// load reads the baseline; without one that can be trusted there are findings.
func (o *offlineOptions) load() (files *baseline.Index, verified bool, found []finding.Finding, err error) {
	found = []finding.Finding{}
	if o.release == "" {
		files, err := loadUnverified(o.baseline)
		if err != nil {
			return nil, false, nil, console.Unreadable(o.baseline, err)
		}
		return files, false, found, nil
	}
	r, found := attester.LoadRelease(o.release, o.trust, o.threshold)
	if r == nil {
		return nil, false, found, nil
	}
	files, found = attester.LoadBaseline(o.baseline, r)
	if found == nil {
		found = []finding.Finding{}
	}
	return files, files != nil, found, nil
}

func loadUnverified(name string) (*baseline.Index, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	digest, err := baseline.Digest(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return baseline.LoadIndex(f, info.Size(), digest) // reads from the file until the program ends
}

// compare makes the scan.
func (c *compared) compare(files *baseline.Index, root string) error {
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New("not a folder")
		}
		return console.Unreadable(root, err)
	}
	want, err := files.Entries()
	if err != nil {
		return &cli.Exit{Status: cli.NotDecided, Err: err}
	}
	begun := time.Now()
	p := scan.Pass{Root: root, Want: want, Full: true}
	p.Tell = func(d diff.Difference, _ bool) {
		f, told := d.Finding()
		p.Counts.Add(d, told)
		switch {
		case told && len(c.Findings) < maxFound:
			c.Findings = append(c.Findings, f)
		case told:
			c.Unlisted++
		}
	}
	err = p.Run()
	c.Report = scan.Report{Verdict: scan.Clean, Reason: "offline", Full: true, Seconds: time.Since(begun).Seconds(), Counts: p.Counts, Mounts: p.Mounts}
	switch {
	case err != nil:
		c.Verdict, c.Error = scan.Failed, err.Error()
	case c.Differences() > 0:
		c.Verdict = scan.Differs
	}
	return nil
}
