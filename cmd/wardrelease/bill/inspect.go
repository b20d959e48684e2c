package bill

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/format/sbom"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// maxUnowned bounds the files without a component that are listed.
const maxUnowned = 1000

// inspection is the result of inspect; its JSON is the verb's output.
type inspection struct {
	Format     string            `json:"format"`
	MediaType  string            `json:"mediaType"`
	Name       string            `json:"name,omitempty"`
	Digest     string            `json:"digest"`
	Components []inspected       `json:"components"`
	Files      int               `json:"files"`
	Hashed     int               `json:"hashed"`  // files with a SHA-256
	Owned      int               `json:"owned"`   // files that belong to a component
	Unowned    []string          `json:"unowned"` // paths of those that do not, at most 1000
	Left       []left            `json:"left"`
	Findings   []finding.Finding `json:"findings"`
}

type inspected struct {
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	Supplier string `json:"supplier,omitempty"`
	PURL     string `json:"purl,omitempty"`
	CPE      string `json:"cpe,omitempty"`
	Licence  string `json:"licence,omitempty"`
	Files    int    `json:"files"`
}

type left struct {
	What  string `json:"what"`
	Count int    `json:"count"`
	First string `json:"first,omitempty"`
}

// New makes the verb sbom.
func New() *cobra.Command {
	cmd := &cobra.Command{Use: "sbom", Short: "Look at an SBOM as wardrelease reads it"}
	cmd.AddCommand(newInspect())
	return cmd
}

func newInspect() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show an SBOM's components, how many files each has, and what could not be mapped",
		Long: "Show an SBOM's components, how many files each has, and what could not be mapped: files without a component, and what was left out.\n" +
			"It reads SPDX 2.2 and 2.3 (JSON, tag-value), SPDX 3.0 (JSON-LD as Yocto's create-spdx-3.0 writes it) and CycloneDX 1.4 to 1.6 (JSON).\n" +
			"A component without files can never be seen running: its SBOM should list them.\n\n" +
			"Exit status: 0 it can be read, 2 it cannot.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := read(args[0])
			if err != nil {
				return err
			}
			i := b.inspect()
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), i)
			}
			return i.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (b *Bill) inspect() inspection {
	d := b.doc
	i := inspection{
		Format: d.Format, MediaType: d.MediaType, Name: d.Name, Digest: fmt.Sprintf("%x", b.sum), Files: len(d.Files),
		Components: make([]inspected, len(d.Components)), Unowned: []string{}, Left: []left{}, Findings: []finding.Finding{},
	}
	for n, c := range d.Components {
		i.Components[n] = inspected{c.Name, c.Version, c.Supplier, c.PURL, c.CPE, c.Licence, 0}
		if c.SHA256 != nil {
			i.Components[n].Files = 1 // it is one itself
		}
	}
	for _, f := range d.Files {
		if f.SHA256 != nil {
			i.Hashed++
		}
		if i.owned(f) {
			i.Owned++
		} else if len(i.Unowned) < maxUnowned {
			i.Unowned = append(i.Unowned, f.Path)
		}
	}
	for _, l := range d.Left {
		i.Left = append(i.Left, left(l))
	}
	return i
}

// owned counts a file for its components. A place at which several were found is
// nobody's.
func (i *inspection) owned(f sbom.File) bool {
	if len(f.Owners) == 0 || f.Seen && len(f.Owners) > 1 {
		return false
	}
	for _, o := range f.Owners {
		i.Components[o].Files++
	}
	return true
}

func (i inspection) print(w io.Writer) error {
	fmt.Fprintf(w, "%s %s, SHA-256 %s\n", i.Format, event.Visible(i.Name), i.Digest)
	fmt.Fprintf(w, "%d components; %d files, %d of them with a SHA-256, %d belong to a component\n\n", len(i.Components), i.Files, i.Hashed, i.Owned)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range i.Components {
		fmt.Fprintf(t, "%s\t%s\t%d files\t%s\n", c.Name, c.Version, c.Files, event.Visible(strings.Join(nonEmpty(c.Licence, c.Supplier, c.PURL), "; ")))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(i.Unowned)+len(i.Left) > 0 {
		fmt.Fprintln(w, "\nnot mapped:")
	}
	for _, l := range i.Left {
		text := fmt.Sprintf("%d %s", l.Count, l.What)
		if l.First != "" {
			text += ", the first is " + event.Visible(l.First)
		}
		fmt.Fprintf(w, "  %s\n", text)
	}
	for _, p := range i.Unowned {
		fmt.Fprintf(w, "  file %s\n", event.Visible(p))
	}
	return nil
}

func nonEmpty(texts ...string) []string {
	var out []string
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return out
}
