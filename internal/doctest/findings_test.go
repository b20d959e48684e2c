package doctest

import (
	"fmt"
	"strings"
	"testing"

	"ward/internal/trust/finding"
)

// Verifies: SR-019
func TestFindingsCurrent(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Findings\n\n")
	b.WriteString("Everything that Ward can say about a device, with what to do. Made from `internal/trust/finding` by `make docs`; do not edit. A code keeps its meaning for good.\n\n")
	b.WriteString("A *condition* lasts: it is raised, and cleared when it no longer holds. An *incident* happened at one moment and is only raised. A condition can be acknowledged at the bedside (`wardctl acknowledge CODE`): that it was seen is recorded and sent; it holds on until it is cleared. Clauses are those that the finding supports. Techniques are those of ATT&CK and ATT&CK for ICS, version " + finding.AttackVersion + ", of which the finding may be a trace; most findings have harmless causes, too. `wardctl explain CODE` says the same on the device, without a network.\n\n")
	b.WriteString("| code | severity | kind | title |\n|---|---|---|---|\n")
	all := finding.All()
	for _, d := range all {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s |\n", d.Code, anchor(d.Code), d.Severity, d.Kind, d.Title)
	}
	for _, d := range all {
		fmt.Fprintf(&b, "\n## %s\n\n%s (%s, %s).\n\n%s\n\n**What to do:** %s\n\nSupports: %s.\n",
			d.Code, upperFirst(d.Title), d.Severity, d.Kind, d.Meaning, d.Remedy, strings.Join(d.Clauses, "; "))
		if ts := finding.Techniques(d.Code); len(ts) > 0 {
			var links []string
			for _, t := range ts {
				links = append(links, fmt.Sprintf("[%s](%s) %s", t.ID, t.Address(), t.Name))
			}
			fmt.Fprintf(&b, "\nTechniques: %s.\n", strings.Join(links, "; "))
		}
	}
	Current(t, "../../docs/FINDINGS.md", b.String())
}

// Verifies: SR-019
func TestFindingsAreComplete(t *testing.T) {
	for _, d := range finding.All() {
		if d.Title == "" || d.Meaning == "" || d.Remedy == "" || len(d.Clauses) == 0 || d.Severity.String() == "none" {
			t.Errorf("%s: a part of its definition is empty", d.Code)
		}
		if d.Kind != finding.Condition && d.Kind != finding.Incident {
			t.Errorf("%s: kind %q", d.Code, d.Kind)
		}
		for _, text := range []string{d.Title, d.Meaning, d.Remedy} {
			if strings.ContainsAny(text, "\n|") {
				t.Errorf("%s: %q breaks the line of a table", d.Code, text)
			}
		}
	}
}

// anchor is the name that a Markdown heading of the code gets.
func anchor(c finding.Code) string { return strings.ReplaceAll(string(c), ".", "") }

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
