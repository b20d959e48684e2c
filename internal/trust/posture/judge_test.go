package posture

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ward/internal/trust/finding"
)

// said writes what Judge finds of one rule and one claim.
func said(policy *Policy, claims ...Claim) []string {
	var out []string
	for _, j := range Judgements(policy, claims) {
		out = append(out, fmt.Sprintf("%s %s", j.Finding.Code, j.Finding.Detail))
	}
	return out
}

// one is a policy of one rule.
func one(claim string, mode Mode, values ...string) *Policy {
	return &Policy{Rules: []Rule{{Claim: claim, Mode: mode, Values: values}}}
}

func numbers(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("m%03d", i))
	}
	return out
}

// Every mode against values that fit, that are too many, too few, unreadable, and of
// a thing that is not there.
//
// Verifies: SR-092
func TestModes(t *testing.T) {
	has := func(values ...string) Claim { return Claim{Name: Modules, Values: values} }
	optional := one(Modules, Equal, "a")
	optional.Rules[0].Optional = true
	for _, c := range []struct {
		name   string
		policy *Policy
		claim  Claim
		want   string // "": nothing
	}{
		{"equal", one(Modules, Equal, "a", "b"), has("a", "b"), ""},
		{"equal, one too many", one(Modules, Equal, "a"), has("a", "b"), "posture.module-unknown kernel.modules: not released: b"},
		{"equal, one too few", one(Modules, Equal, "a", "b"), has("b"), "posture.module-missing kernel.modules: not there: a"},
		{"equal, another one", one(Modules, Equal, "a"), has("b"), "posture.module-unknown kernel.modules: not released: b; not there: a"},
		{"equal, nothing wanted", one(Modules, Equal), has(), ""},
		{"equal, many too many", one(Modules, Equal), has(numbers(20)...), "posture.module-unknown kernel.modules: not released: m000, m001, m002, m003, m004, m005, m006, m007 and 12 more"},
		{"equal, values left out", one(Modules, Equal, "a"), Claim{Name: Modules, Values: []string{"a"}, More: 3}, "posture.module-unknown kernel.modules: not released; left out: 3"},
		{"within", one(Modules, Within, "a", "b"), has("a"), ""},
		{"within, nothing there", one(Modules, Within, "a"), has(), ""},
		{"within, a stranger", one(Modules, Within, "a", "b"), has("b", "c"), "posture.module-unknown kernel.modules: not released: c"},
		{"within, values left out", one(Modules, Within, "a"), Claim{Name: Modules, Values: []string{"a"}, More: 1}, "posture.module-unknown kernel.modules: not released; left out: 1"},
		{"contains", one(Modules, Contains, "a"), has("a", "b"), ""},
		{"contains, not there", one(Modules, Contains, "a", "c"), has("b"), "posture.module-missing kernel.modules: not there: a, c"},
		{"contains, more than can be compared", one(Modules, Contains, "z"), Claim{Name: Modules, Values: []string{"a"}, More: 9}, "posture.unreadable kernel.modules: more values than can be compared: 9"},
		{"contains, seen nonetheless", one(Modules, Contains, "a"), Claim{Name: Modules, Values: []string{"a"}, More: 9}, ""},
		{"recorded", one(Modules, Recorded), has("a"), ""},
		{"recorded, unreadable", one(Modules, Recorded), Claim{Name: Modules, Error: "no"}, ""},
		{"absent", one(Modules, Equal, "a"), Claim{Name: Modules, Absent: true}, "posture.module-missing kernel.modules: this device has no such thing; expected a"},
		{"absent, though nothing is wanted of it", one(Modules, Equal), Claim{Name: Modules, Absent: true}, "posture.module-missing kernel.modules: this device has no such thing"},
		{"absent and optional", optional, Claim{Name: Modules, Absent: true}, ""},
		{"optional and there", optional, has("b"), "posture.module-unknown kernel.modules: not released: b; not there: a"},
		{"optional and unreadable", optional, Claim{Name: Modules, Error: "permission denied"}, "posture.unreadable kernel.modules: permission denied"},
		{"unreadable", one(Modules, Within, "a"), Claim{Name: Modules, Error: "permission denied"}, "posture.unreadable kernel.modules: permission denied"},
		{"nobody reads it", one(Modules, Equal, "a"), Claim{Name: LSM}, "posture.rule-unknown kernel.modules: nothing on this device reads it"},
		{"nobody knows it", one("kernel.colour", Equal, "a"), has("a"), "posture.rule-unknown kernel.colour: nothing of that name is known"},
		{"nobody knows what is recorded", one("kernel.colour", Recorded), has("a"), "posture.rule-unknown kernel.colour: nothing of that name is known"},
		{"no rule", &Policy{}, has("a"), ""},
		{"no release", nil, has("a"), ""},
	} {
		if got := strings.Join(said(c.policy, c.claim), "\n"); got != c.want {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", c.name, got, c.want)
		}
	}
}

// Each claim that is not as the release wants it has the code of its table row.
//
// Verifies: SR-092
func TestEveryClaimHasItsCode(t *testing.T) {
	codes := map[string]finding.Code{
		SecureBoot: "posture.secure-boot", Lockdown: "posture.lockdown", KernelRelease: "posture.kernel-version", CommandLine: "posture.kernel-weakened",
		Modules: "posture.module-unknown", UnsignedModules: "posture.module-unsigned", ModuleSignature: "posture.module-unsigned",
		Taint: "posture.kernel-tainted", Kexec: "posture.kernel-weakened", LSM: "posture.kernel-weakened", IMA: "posture.kernel-weakened",
		EVM: "posture.kernel-weakened", SELinux: "posture.kernel-weakened", AppArmor: "posture.kernel-weakened", Sysctl: "posture.sysctl",
		KernelDebug: "posture.debug-interface", CPU: "posture.cpu-vulnerable", TPMFirmware: "posture.differs", TPMWeakness: "posture.tpm-weak",
		ClockSource: "posture.clock", Mounts: "posture.mount", DMVerity: "posture.verity", FSVerity: "posture.verity", Encrypted: "posture.encryption",
		Setuid: "posture.setuid", WorldWritable: "posture.setuid", Sockets: "posture.socket-unknown", Logins: "posture.account",
		EmptyPasswords: "posture.account", AuthorisedKeys: "posture.account", Cron: "posture.scheduled-task", Units: "posture.scheduled-task",
		HardwareDebug: "posture.debug-interface", Consoles: "posture.debug-interface", ClockSync: "posture.clock", DiskWear: "posture.wear", BlockDevices: "posture.mount",
	}
	for name, code := range codes {
		fs := Judge(one(name, Equal, "as released"), []Claim{{Name: name, Values: []string{"else"}}})
		if len(fs) != 1 || fs[0].Code != code || fs[0].Remedy == "" {
			t.Errorf("%s: %+v, want %s", name, fs, code)
		}
		if _, known := Lookup(name); !known {
			t.Errorf("%s is not in the table", name)
		}
	}
	for _, d := range Definitions() {
		if codes[d.Name] == "" {
			t.Errorf("%s has no row here", d.Name)
		}
		for _, code := range []finding.Code{d.Code, d.Missing} {
			if _, known := finding.Lookup(code); code != "" && !known {
				t.Errorf("%s: code %s", d.Name, code)
			}
		}
	}
}

// What no release needs to say: where it has no rule, the default judges; a rule of
// the release, "recorded" too, takes its place.
//
// Verifies: SR-093
func TestDefaults(t *testing.T) {
	tainted := Claim{Name: Taint, Values: []string{"out-of-tree-module", "unsigned-module"}}
	const forced = "posture.kernel-tainted kernel.taint: not released: unsigned-module"
	for _, c := range []struct {
		name   string
		policy *Policy
		claim  Claim
		want   string
	}{
		{"no release", nil, tainted, forced},
		{"no rule", one(Lockdown, Recorded), tainted, forced},
		{"recorded by the release", one(Taint, Recorded), tainted, ""},
		{"allowed by the release", one(Taint, Within, "out-of-tree-module", "unsigned-module"), tainted, ""},
		{"harmless bits", nil, Claim{Name: Taint, Values: []string{"out-of-tree-module", "warning"}}, ""},
		{"a bit that nobody knows", nil, Claim{Name: Taint, Values: []string{"bit-42"}}, "posture.kernel-tainted kernel.taint: not released: bit-42"},
		{"unsigned module", nil, Claim{Name: UnsignedModules, Values: []string{"rootkit unsigned"}}, "posture.module-unsigned kernel.unsigned-modules: not released: rootkit unsigned"},
		{"no modules at all", nil, Claim{Name: UnsignedModules, Absent: true}, ""},
		{"modules that cannot be read", nil, Claim{Name: UnsignedModules, Error: "no"}, "posture.unreadable kernel.unsigned-modules: no"},
		{"weak TPM", nil, Claim{Name: TPMWeakness, Values: []string{"ROCA"}}, "posture.tpm-weak tpm.weakness: not released: ROCA"},
		{"empty password", nil, Claim{Name: EmptyPasswords, Values: []string{"root"}}, "posture.account account.empty-password: not released: root"},
		{"program for all to write", nil, Claim{Name: WorldWritable, Values: []string{"/usr/bin/x"}}, "posture.setuid fs.world-writable: not released: /usr/bin/x"},
		{"what is only recorded", nil, Claim{Name: Lockdown, Values: []string{"none"}}, ""},
	} {
		var here []string
		for _, s := range said(c.policy, c.claim) {
			if !strings.HasPrefix(s, "posture.rule-unknown") {
				here = append(here, s)
			}
		}
		if got := strings.Join(here, "\n"); got != c.want {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", c.name, got, c.want)
		}
	}
	if err := (&Policy{Rules: DefaultRules()}).Check(); err != nil {
		t.Errorf("a release could not say the defaults: %v", err)
	}
}

// Paths that the release does not name are hidden wherever they stand in a value,
// those that it names are not, and what Judge says is the same.
//
// Verifies: SR-094
func TestConceal(t *testing.T) {
	hide := func(path string) string {
		if strings.HasPrefix(path, "/usr/") {
			return path // of the release
		}
		return "/~" + fmt.Sprint(len(path))
	}
	policy := one(Sockets, Equal, "tcp 127.0.0.1:22 /opt/named", "udp *:123 /usr/sbin/chronyd")
	for _, c := range []struct {
		name, claim  string
		values, want []string
	}{
		{"not named", Sockets, []string{"tcp 127.0.0.1:22 /opt/named", "tcp *:80 /home/smith/x"}, []string{"tcp *:80 /~13", "tcp 127.0.0.1:22 /opt/named"}},
		{"of the release", Sockets, []string{"udp *:53 /usr/bin/x"}, []string{"udp *:53 /usr/bin/x"}},
		{"behind a sign", CommandLine, []string{"init=/home/smith/x", "a:/tmp/x", "|/tmp/y %p", "/"}, []string{"/", "a:/~6", "init=/~13", "|/~6 %p"}},
		{"not a path", CommandLine, []string{"a/b", "10.0.0.0/8"}, []string{"10.0.0.0/8", "a/b"}},
		{"a claim without paths", Modules, []string{"/x"}, []string{"/x"}},
		{"a claim that nobody knows", "new.claim", []string{"/home/smith/x"}, []string{"/~13"}},
		{"two that become one", Sockets, []string{"tcp /opt/aa", "tcp /opt/bb"}, []string{"tcp /~7"}},
	} {
		claims := []Claim{{Name: c.claim, Values: slices.Clone(c.values)}}
		got := Conceal(policy, claims, hide)
		if !slices.Equal(got[0].Values, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got[0].Values, c.want)
		}
		if !slices.Equal(claims[0].Values, c.values) {
			t.Errorf("%s: the claim itself was changed", c.name)
		}
		if a, b := Judge(policy, claims), Judge(policy, got); len(a) != len(b) || len(a) > 0 && a[0].Code != b[0].Code {
			t.Errorf("%s: judged %v, concealed %v", c.name, a, b)
		}
	}
}

func TestDifference(t *testing.T) {
	extra, missing := Difference([]string{"a", "c", "d"}, []string{"b", "c", "e"})
	if !slices.Equal(extra, []string{"b", "e"}) || !slices.Equal(missing, []string{"a", "d"}) {
		t.Errorf("extra %q, missing %q", extra, missing)
	}
}

func TestEvery(t *testing.T) {
	var none *Policy
	for _, c := range []struct {
		policy  *Policy
		seconds float64
	}{{none, 900}, {&Policy{}, 900}, {&Policy{EverySeconds: 60}, 60}} {
		if got := c.policy.Every().Seconds(); got != c.seconds {
			t.Errorf("%+v: %v", c.policy, got)
		}
	}
}
