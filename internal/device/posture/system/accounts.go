package system

import (
	"io/fs"
	"path"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// maxAccounts bounds accounts; with more nothing is told.
const maxAccounts = 4096

// account is a line of passwd(5).
type account struct{ name, password, uid, home, shell string }

func accounts(root fs.FS) ([]account, error) {
	var all []account
	err := bounded.Lines(root, "etc/passwd", textFile, func(line string) {
		f := strings.Split(line, ":")
		if len(f) == 7 && len(all) <= maxAccounts {
			all = append(all, account{name: f[0], password: f[1], uid: f[2], home: f[5], shell: f[6]})
		}
	})
	if err == nil && len(all) > maxAccounts {
		return nil, bounded.ErrMany
	}
	return all, err
}

// noLogin are the programs that a shell is set to so that nobody logs in, by the
// last part of their path.
var noLogin = map[string]bool{"nologin": true, "false": true, "sync": true, "shutdown": true, "halt": true, "true": true}

// Logins tells each account whose shell lets somebody in with user number and shell:
// "root 0 /bin/sh". One without a shell gets /bin/sh (passwd(5)).
func Logins(name func(string) string) posture.Collector {
	return collector(claim.Logins, func(root fs.FS) ([]string, error) {
		all, err := accounts(root)
		if err != nil {
			return nil, gone(err)
		}
		var values []string
		for _, a := range all {
			if a.shell == "" {
				a.shell = "/bin/sh"
			}
			if !noLogin[path.Base(a.shell)] {
				values = append(values, bounded.Word(name(a.name))+" "+bounded.Word(a.uid)+" "+bounded.Word(a.shell))
			}
		}
		return values, nil
	})
}

// EmptyPasswords tells each account into which anybody comes with an empty password
// (shadow(5), field 2; passwd(5) where an account has no line there). Nothing of a
// password that is set is ever told.
func EmptyPasswords(name func(string) string) posture.Collector {
	return collector(claim.EmptyPasswords, func(root fs.FS) ([]string, error) {
		all, err := accounts(root)
		if err != nil {
			return nil, gone(err)
		}
		var values []string
		many, seen := 0, make(map[string]bool)
		err = bounded.Lines(root, "etc/shadow", textFile, func(line string) {
			user, rest, ok := strings.Cut(line, ":")
			if many++; !ok || many > maxAccounts {
				return
			}
			seen[user] = true
			if password, _, _ := strings.Cut(rest, ":"); password == "" {
				values = append(values, bounded.Word(name(user)))
			}
		})
		if err != nil && !bounded.Absent(err) {
			return nil, err
		}
		if many > maxAccounts {
			return nil, bounded.ErrMany
		}
		for _, a := range all {
			if a.password == "" && !seen[a.name] {
				values = append(values, bounded.Word(name(a.name)))
			}
		}
		return values, nil
	})
}
