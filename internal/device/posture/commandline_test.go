package posture

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// What is told of parameters: those that decide about security as they are, of
// others no value, of words none, whatever the line looks like.
//
// Verifies: SR-094
func TestParametersThatMayBeSecrets(t *testing.T) {
	for line, want := range map[string][]string{
		"lockdown=integrity module.sig-enforce=1 ro": {"lockdown=integrity", "module.sig-enforce=1", "ro"},
		"ima_policy=tcb dm-mod.create=a,b":           {"dm-mod.create=a,b", "ima_policy=tcb"},
		"luks.key=secret":                            {"luks.key=~"},
		"-- secret secret":                           {"~", "~"},
		`a="secret secret"`:                          {"a=~"},
		`"a=secret secret"`:                          {`"a=~`},
		`"secret x=1`:                                {"~"},
		"secret/x=1":                                 {"~"},
		strings.Repeat("k", 65) + "=secret":          {"~"},
		"root= lockdownx=secret":                     {"lockdownx=~", "root="},
		"init=/sbin/init\nsecret\tsecret2\x00secret": {"init=/sbin/init", "~", "~"},
	} {
		c := claim("x", commandLine).Collect(fstest.MapFS{"proc/cmdline": {Data: []byte(line + "\n"), Mode: 0o444}})
		var got []string
		for _, v := range c.Values {
			if at := strings.Index(v, "~"); at >= 0 {
				v = v[:at+1]
			}
			got = append(got, v)
		}
		if !slices.Equal(got, want) || strings.Contains(strings.Join(c.Values, " "), "secret") {
			t.Errorf("%q: %q, want %q", line, c.Values, want)
		}
	}
}
