// Package findings holds wardctl's verbs about single findings: what one means, from
// the catalogue (docs/FINDINGS.md), and that a condition was seen at the bedside.
package findings

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/cli"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// explained is what explain says of a code; its JSON is the verb's output.
type explained struct {
	finding.Definition
	Techniques []finding.Technique `json:"techniques"`
}

// NewExplain makes the verb explain.
func NewExplain() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [CODE]",
		Short: "Say what a finding means and what to do about it",
		Long: `Say what a finding means, how grave it is, whether it lasts (a condition) or
happened (an incident), what to do about it, which clauses of standards it
supports, and of which techniques of ATT&CK it may be a trace. Without a code,
list all. Neither the daemon nor a network is needed.

Exit status: 0 explained, 2 there is no such code.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			if len(args) == 0 {
				return listCodes(out, asJSON)
			}
			d, ok := finding.Lookup(finding.Code(args[0]))
			if !ok {
				return cli.Fail(cli.Usage, "there is no finding %q%s", event.Visible(args[0]), nearest(args[0]))
			}
			e := explained{d, techniquesOf(d.Code)}
			if asJSON {
				return cli.JSON(out, e)
			}
			e.print(out)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func techniquesOf(c finding.Code) []finding.Technique {
	if ts := finding.Techniques(c); ts != nil {
		return ts
	}
	return []finding.Technique{}
}

func (e explained) print(w io.Writer) {
	console.Row(w, "Code", "%s", e.Code)
	console.Row(w, "", "%s", e.Title)
	console.Row(w, "Severity", "%s", e.Severity)
	kind := "condition: it lasts, and is cleared when it no longer holds"
	if e.Kind == finding.Incident {
		kind = "incident: it happened at one moment"
	}
	console.Row(w, "Kind", "%s", kind)
	console.Row(w, "Meaning", "%s", e.Meaning)
	console.Row(w, "Do", "%s", e.Remedy)
	console.Row(w, "Supports", "%s", strings.Join(e.Clauses, "; "))
	for i, t := range e.Techniques {
		label := ""
		if i == 0 {
			label = "ATT&CK"
		}
		console.Row(w, label, "%s %s", t.ID, t.Name)
	}
}

func listCodes(w io.Writer, asJSON bool) error {
	all := finding.All()
	if asJSON {
		list := make([]explained, 0, len(all))
		for _, d := range all {
			list = append(list, explained{d, techniquesOf(d.Code)})
		}
		return cli.JSON(w, list)
	}
	for _, d := range all {
		if _, err := fmt.Fprintf(w, "%-9s %-29s %s\n", d.Severity, d.Code, d.Title); err != nil {
			return err
		}
	}
	return nil
}

// nearest says which codes have a part of the name that was asked for.
func nearest(asked string) string {
	area, what, dotted := strings.Cut(asked, ".")
	if !dotted {
		what = area
	}
	var like []string
	for _, d := range finding.All() {
		if what != "" && strings.Contains(string(d.Code), what) || area == d.Code.Area() && !dotted {
			like = append(like, string(d.Code))
		}
	}
	if len(like) == 0 {
		return ": wardctl explain lists all"
	}
	return ": did you mean " + strings.Join(like, ", ") + "?"
}
