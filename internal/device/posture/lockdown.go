package posture

import (
	"fmt"
	"io/fs"
	"strings"

	"ward/internal/trust/posture"
)

// lockdown says "none", "integrity" or "confidentiality"
// (Documentation/admin-guide/security-bugs, kernel_lockdown(7)): the word that
// stands in brackets.
func lockdown(root fs.FS) posture.Claim {
	const file = "sys/kernel/security/lockdown"
	text, err := word(root, file)
	if err != nil {
		return Missing(posture.Lockdown, err)
	}
	_, rest, open := strings.Cut(text, "[")
	mode, _, closed := strings.Cut(rest, "]")
	if !open || !closed || mode == "" || strings.ContainsAny(mode, " [") {
		return Failed(posture.Lockdown, fmt.Errorf("parse /%s: no word in brackets in %.40q", file, text))
	}
	return Value(posture.Lockdown, mode)
}
