package system

import (
	"path"
	"strings"

	claim "ward/internal/trust/posture"
)

// ReleasedNames gives accounts their names as they may leave the device: as they are
// where the release has a rule that names them, and root's always; else the hidden form
// of a path with that name, of which the last part stays: "~0123456789ab".
func ReleasedNames(policy func() *claim.Policy, hide func(path string) string) func(account string) string {
	return func(account string) string {
		if account == "root" {
			return account
		}
		for _, name := range []string{claim.Logins, claim.EmptyPasswords, claim.AuthorisedKeys} {
			r := policy().RuleOf(name)
			if r == nil {
				continue
			}
			for _, v := range r.Values {
				if first, _, _ := strings.Cut(v, " "); first == account {
					return account
				}
			}
		}
		return path.Base(hide("/accounts/" + path.Base(account)))
	}
}
