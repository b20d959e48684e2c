// Package console is how wardctl speaks to people: rows, findings with what to do,
// and files that are read within bounds, on a terminal of 80 columns.
package console

import (
	"fmt"
	"io"
	"strings"

	"ward/internal/agent/localapi"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// width is a serial console's.
const width = 80

// PrintFindings prints each finding with what it means here and what to do.
func PrintFindings(w io.Writer, title string, fs []finding.Finding) {
	if len(fs) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, f := range fs {
		printFinding(w, f)
	}
}

// PrintConditions prints each condition as PrintFindings does, with what it is
// about and who has acknowledged it.
func PrintConditions(w io.Writer, title string, cs []localapi.Condition) {
	if len(cs) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, c := range cs {
		printFinding(w, c.Finding)
		detail(w, "about: ", c.Subject)
		if a := c.Acknowledged; a != nil {
			detail(w, "acknowledged: ", a.Time.UTC().Format("2006-01-02 15:04:05")+" by "+OrNothing(a.By))
		}
	}
}

func printFinding(w io.Writer, f finding.Finding) {
	fmt.Fprintf(w, "  %-8s %s%s\n", f.Severity, event.Visible(string(f.Code)), Where(f))
	if d, ok := finding.Lookup(f.Code); ok {
		detail(w, "", d.Title)
	}
	detail(w, "", f.Detail)
	if f.Expected != "" || f.Found != "" {
		detail(w, "expected ", OrNothing(f.Expected))
		detail(w, "found    ", OrNothing(f.Found))
	}
	detail(w, "do: ", f.Remedy)
}

// detail prints a text beneath a finding, wrapped behind its label.
func detail(w io.Writer, label, text string) {
	if text == "" {
		return
	}
	const indent = 4
	fmt.Fprintf(w, "%*s%s%s\n", indent, "", label, Wrap(event.Visible(text), indent+len(label)))
}

// Where says which register, entry and file a finding is about.
func Where(f finding.Finding) string {
	var parts []string
	if f.PCR != nil {
		parts = append(parts, fmt.Sprintf("PCR %d", *f.PCR))
	}
	if f.Index != nil {
		parts = append(parts, fmt.Sprintf("entry %d", *f.Index))
	}
	if f.Path != "" {
		parts = append(parts, event.Visible(f.Path))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  (" + strings.Join(parts, ", ") + ")"
}

// OrNothing names what is empty.
func OrNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Wrap breaks a text at spaces for a console, indenting what follows the first
// line.
func Wrap(s string, indent int) string {
	var b strings.Builder
	line := indent
	for i, word := range strings.Fields(s) {
		if i > 0 {
			if line+1+len(word) > width {
				b.WriteString("\n" + strings.Repeat(" ", indent))
				line = indent
			} else {
				b.WriteByte(' ')
				line++
			}
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
}

// row prints a labelled line, wrapped behind the label.
func Row(w io.Writer, label, format string, args ...any) {
	const indent = 10
	fmt.Fprintf(w, "%-*s%s\n", indent, label, Wrap(event.Visible(fmt.Sprintf(format, args...)), indent))
}

// VerdictWords says what a tier means to somebody at the bedside.
var VerdictWords = map[string]string{
	"affirming":       "this device started what was released",
	"warning":         "this device started what was released, with reservations",
	"contraindicated": "this device started something else than what was released",
	"none":            "the boot was not judged; this is not a pass",
}
