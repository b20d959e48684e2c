package software

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/cli"
	"ward/internal/trust/event"
)

// NewVersions makes the verb versions.
func NewVersions(socket string) *cobra.Command {
	var from source
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "versions",
		Short: "Say which versions this device runs: Ward, the kernel, the release, its components",
		Long: `Say which versions this device runs: Ward's, the kernel's, the product's release,
how many components the release has, and which of them have run since the boot.
The daemon answers; where it does not, the same files are read, and what it kept
of this boot (at most a minute behind).

Exit status: 0 the release is verified, 1 it is, and something else is wrong with
its files, 3 it cannot be verified.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := from.ask(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout(), t)
			} else {
				t.printVersions(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return console.Status(t.Findings, t.Release.Verified)
		},
	}
	from.flags(cmd, socket)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (t told) printVersions(w io.Writer) {
	if t.Offline {
		console.Row(w, "Ward", "wardd does not answer; this is from its files")
	} else {
		console.Row(w, "Ward", "%s", t.Ward)
	}
	console.Row(w, "Kernel", "%s", event.Visible(console.OrNothing(t.Kernel)))
	if t.Release.Verified {
		console.Row(w, "Release", "%s %s for %s, manifest %.16s", t.Release.Product, t.Release.Version, t.Release.Board, t.Release.Digest)
	} else {
		console.Row(w, "Release", "not verified: %s", console.OrNothing(t.Release.Reason))
	}
	switch {
	case t.SBOM == nil:
		console.Row(w, "SBOM", "the release names none")
	case t.SBOM.Path == "":
		console.Row(w, "SBOM", "%s, not on this device, SHA-256 %.16s", t.SBOM.MediaType, t.SBOM.Digest)
	default:
		console.Row(w, "SBOM", "%s, SHA-256 %.16s, at", t.SBOM.MediaType, t.SBOM.Digest)
		console.Row(w, "", "%s", t.SBOM.Path)
	}
	if !t.Known {
		console.Row(w, "Holds", "%d components; which of them ran is not known: %s", t.Components, event.Visible(t.Reason))
	} else {
		console.Row(w, "Holds", "%d components, of which %d ran since the boot", t.Components, len(t.Running))
	}
	for _, c := range t.Running {
		console.Row(w, "", "%s", event.Visible(c))
	}
	console.PrintFindings(w, "Findings", t.Findings)
	if len(t.Findings) > 0 {
		fmt.Fprintln(w)
	}
}
