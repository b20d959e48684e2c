// Package manpage writes the manual page of a program from its commands, in the
// language of man(7): one page with a section per verb.
package manpage

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page renders the manual page of the program whose root command it is given,
// section 1 of the manual.
func Page(root *cobra.Command) string {
	var b strings.Builder
	name := root.Name()
	fmt.Fprintf(&b, ".\\\" Made from the program's commands by make docs; do not edit.\n")
	fmt.Fprintf(&b, ".TH %s 1 \"\" Ward \"Ward\"\n", strings.ToUpper(name))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(name), escape(lowerFirst(root.Short)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.I verb\n.RI [ arguments ]\n", escape(name))
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, root.Long)
	options(&b, root.PersistentFlags())
	b.WriteString(".SH VERBS\n")
	verbs(&b, root, name+" ")
	fmt.Fprintf(&b, ".SH FILES\n.TP\n.I /etc/ward/wardd.toml\nsettings of the daemon on the device\n")
	fmt.Fprintf(&b, ".SH SEE ALSO\n.BR wardd (8)\n")
	return b.String()
}

// verbs writes one subsection for each verb that can be run, deepest last.
func verbs(b *strings.Builder, cmd *cobra.Command, prefix string) {
	for _, c := range cmd.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Runnable() {
			fmt.Fprintf(b, ".SS %s\n", escape(prefix+c.Use))
			text := c.Long
			if text == "" {
				text = c.Short + "."
			}
			paragraphs(b, text)
			options(b, c.LocalFlags())
			if c.Example != "" {
				b.WriteString("Example:\n")
				verbatim(b, c.Example)
			}
		}
		verbs(b, c, prefix+c.Name()+" ")
	}
}

func options(b *strings.Builder, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value == "" {
			fmt.Fprintf(b, ".TP\n.B %s\n", escape(name))
		} else {
			fmt.Fprintf(b, ".TP\n.BI \"%s \" %s\n", escape(name), escape(value))
		}
		b.WriteString(escape(usage))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			b.WriteString(escape(" (default " + f.DefValue + ")"))
		}
		b.WriteString("\n")
	})
	b.WriteString(".PP\n")
}

// paragraphs writes running text; indented lines stand as they are.
func paragraphs(b *strings.Builder, text string) {
	for _, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(p, " ") || strings.HasPrefix(p, "\t") {
			verbatim(b, p)
			continue
		}
		b.WriteString(".PP\n")
		for _, line := range strings.Split(p, "\n") {
			b.WriteString(escape(strings.TrimRight(line, " ")) + "\n")
		}
	}
}

func verbatim(b *strings.Builder, text string) {
	b.WriteString(".PP\n.nf\n")
	for _, line := range strings.Split(text, "\n") {
		b.WriteString(escape(line) + "\n")
	}
	b.WriteString(".fi\n")
}

// escape keeps text from being read as a request: backslashes, a leading dot
// or quote, and hyphens that a reader may copy.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
