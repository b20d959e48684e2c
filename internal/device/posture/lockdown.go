package posture

import (
	"io/fs"
	"strings"
)

// lockdown says "none", "integrity" or "confidentiality" (kernel_lockdown(7)): the
// word that stands in brackets.
func lockdown(root fs.FS) ([]string, error) {
	const file = "sys/kernel/security/lockdown"
	text, err := word(root, file)
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(text, "[")
	mode, _, closed := strings.Cut(rest, "]")
	if !closed || mode == "" || strings.ContainsAny(mode, " [") {
		return nil, bad(file, text)
	}
	return []string{mode}, nil
}
