package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ward/internal/doctest"
)

// Verifies: SR-015
func TestReferenceCurrent(t *testing.T) {
	doctest.Current(t, "../../docs/CONFIG.md", reference())
}

func reference() string {
	var b strings.Builder
	b.WriteString("# wardd.toml\n\n")
	b.WriteString("The daemon's settings, by default `/etc/ward/wardd.toml`. Made from `internal/config` by `make docs`; do not edit.\n\n")
	fmt.Fprintf(&b, "The file is TOML 1.0, at most %d bytes. It begins with `version = %d`. A key that is absent has its default. An unknown key, a value of another type or one outside its bounds refuses the whole file: `wardd` names file, line and key, raises `daemon.config-invalid` and runs on the defaults, which name no broker.\n\n", MaxSize, Version)
	b.WriteString("Policy, reference values, file baseline and trust anchors are signed data and never stand here.\n")
	section := "-"
	for _, k := range keys {
		table, name, ok := strings.Cut(k.name, ".")
		if !ok {
			table, name = "", k.name
		}
		if table != section {
			section = table
			if table == "" {
				b.WriteString("\n## At the top\n\n")
			} else {
				fmt.Fprintf(&b, "\n## [%s]\n\n", table)
			}
			b.WriteString("| key | type | default | bounds | meaning |\n|---|---|---|---|---|\n")
		}
		def := Default()
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, typeWords(k.field(&def)), defaultWords(k.field(&def)), k.bound.words, k.meaning)
	}
	b.WriteString("\n## Example\n\n```toml\nversion = 1\n\n[uplink]\nbrokers = [\"tls://broker.example:8883\"]\nserver_name = \"broker.example\"\n```\n")
	return b.String()
}

func typeWords(field any) string {
	switch field.(type) {
	case *bool:
		return "boolean"
	case *int, *int64:
		return "integer"
	case *time.Duration:
		return "duration"
	case *[]string:
		return "list of texts"
	default:
		return "text"
	}
}

func defaultWords(field any) string {
	switch v := field.(type) {
	case *bool:
		return fmt.Sprintf("`%t`", *v)
	case *int:
		return fmt.Sprintf("`%d`", *v)
	case *int64:
		return fmt.Sprintf("`%d`", *v)
	case *time.Duration:
		return fmt.Sprintf("`%q`", span(*v))
	case *string:
		if *v != "" {
			return fmt.Sprintf("`%q`", *v)
		}
	}
	return "none"
}
