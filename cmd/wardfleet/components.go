package main

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/fleet/verifier"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// holdings is the result of components; its JSON is the verb's output.
type holdings struct {
	Components []verifier.Holding `json:"components"`
	Findings   []finding.Finding  `json:"findings"`
}

func newComponents() *cobra.Command {
	var state, name, version string
	var f verifyFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "components --state FILE --release FILE --release-key FILE --baseline FILE [--name NAME] [--version VERSION] [--json]",
		Short: "Say on which devices a component runs, is dormant, or is not known",
		Long: "Say on which devices a component of the SBOM runs, and on which it is installed and dormant: no file of it ran since the boot.\n" +
			"It reads the state file of wardfleet listen, with what devices told in their last evidence that counted, and the releases' file baselines.\n" +
			"NAME and VERSION may hold * and ? as in a shell: --name 'libssl*' --version '3.0.*'.\n\n" +
			"Exit status: 0 no device holds it, 1 a device holds it, 2 bad usage or unreadable input, 3 none is known to hold it, and of some it is not known.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range []string{name, version} {
				if _, err := path.Match(p, ""); err != nil {
					return cli.Fail(cli.Usage, "%q: %w", p, err)
				}
			}
			releases, err := verifier.LoadReleases(f.releases, f.baselines, f.releaseKeys, f.threshold)
			if err != nil {
				return err
			}
			found, err := verifier.Holdings(state+".verifier", releases, func(n, v string) bool { return fits(name, n) && fits(version, v) })
			if err != nil {
				return err
			}
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout(), holdings{found, []finding.Finding{}})
			} else {
				err = printHoldings(cmd.OutOrStdout(), found)
			}
			if err != nil {
				return err
			}
			return cli.Quiet(held(found))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&state, "state", "", "the state `FILE` of wardfleet listen (its --state)")
	flags.StringVar(&name, "name", "", "components of this `NAME`; all without it")
	flags.StringVar(&version, "version", "", "components of this `VERSION`")
	f.addReleases(flags)
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	required(cmd, "state", "release", "release-key")
	return cmd
}

// fits matches a name; an empty pattern fits all.
func fits(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return pattern == "" || ok && err == nil
}

func held(all []verifier.Holding) int {
	status := cli.Good
	for _, h := range all {
		if h.State != verifier.Unknown {
			return cli.Findings
		}
		status = cli.NotDecided
	}
	return status
}

func printHoldings(w io.Writer, all []verifier.Holding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, h := range all {
		what := event.Visible(h.Reason)
		if h.At != nil && what == "" {
			what = fmt.Sprintf("release %s, boot %s, told %s", h.Release, event.Visible(h.Boot), h.At.UTC().Format(time.DateTime))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", h.State, h.Device, h.Tenant, event.Visible(cmp.Or(h.Component, "-")), what)
	}
	return t.Flush()
}
