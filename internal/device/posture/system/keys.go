package system

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io/fs"
	"path"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// keyFiles are where sshd(8) and dropbear(8) look for keys by default: below a home
// ("~"), and for all users by name ("%u") or root alone.
var keyFiles = []string{
	"~/.ssh/authorized_keys", "~/.ssh/authorized_keys2", "etc/ssh/authorized_keys/%u", "etc/dropbear/authorized_keys",
}

// AuthorisedKeys tells each key that opens an account, by the account and the key's
// SHA-256 as ssh-keygen -l writes it: "root SHA256:…"; a line that holds no key is
// "root ?".
func AuthorisedKeys(name func(string) string) posture.Collector {
	return collector(claim.AuthorisedKeys, func(root fs.FS) ([]string, error) {
		all, err := accounts(root)
		if err != nil {
			return nil, gone(err)
		}
		var values []string
		for _, a := range all {
			told := bounded.Word(name(a.name))
			for _, file := range keyFiles {
				if !strings.HasPrefix(file, "~") && !strings.Contains(file, "%u") && a.uid != "0" {
					continue
				}
				file = strings.Replace(file, "%u", a.name, 1)
				if rest, ok := strings.CutPrefix(file, "~"); ok {
					file = a.home + rest
				}
				file = strings.TrimPrefix(path.Clean("/"+file), "/")
				if !fs.ValidPath(file) {
					continue
				}
				b, err := posture.ReadFile(root, file, textFile)
				if err != nil {
					if bounded.Absent(err) {
						continue
					}
					return nil, withoutPath(err)
				}
				for line := range bytes.Lines(b) {
					if key, ok := fingerprint(string(line)); ok {
						values = append(values, told+" "+key)
					}
				}
			}
		}
		return values, nil
	})
}

// fingerprint is that of the key in a line of authorized_keys; false for a line
// without content.
func fingerprint(line string) (string, bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", false
	}
	isKey := false
	for rest := line; rest != ""; {
		var w string
		w, rest = option(rest)
		if isKey {
			blob, err := base64.StdEncoding.DecodeString(w)
			if err != nil || len(blob) == 0 {
				return "?", true
			}
			sum := sha256.Sum256(blob)
			return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]), true
		}
		for _, kind := range []string{"ssh-", "ecdsa-", "sk-"} {
			isKey = isKey || strings.HasPrefix(w, kind)
		}
	}
	return "?", true
}

// option cuts the first word off; spaces within quotes belong to it.
func option(s string) (first, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ' ' || s[i] == '\t'):
			return s[:i], strings.TrimLeft(s[i:], " \t")
		}
	}
	return s, ""
}
