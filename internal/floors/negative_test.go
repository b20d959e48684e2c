package floors

import (
	"slices"
	"strings"
	"testing"
)

// Each row breaks exactly one rule, or none; at is the line that must be named.
var synthetic = []struct {
	name string
	path string
	file string
	text string
	rule string // empty: nothing is broken
	at   string
}{
	{"format imports format without an arrow", "ward/internal/format/dsse", "a.go", "import _ `ward/internal/format/pcr`", "floors", "a.go:4"},
	{"format imports format with an arrow", "ward/internal/format/ima", "a.go", "import _ `ward/internal/format/pcr`", "", ""},
	{"an arrow points one way", "ward/internal/format/pcr", "a.go", "import _ `ward/internal/format/ima`", "floors", "a.go:4"},
	{"format imports trust", "ward/internal/format/ima", "a.go", "import _ `ward/internal/trust/finding`", "floors", "a.go:4"},
	{"appraisal imports the rest of trust", "ward/internal/trust/appraisal", "a.go", "import _ `ward/internal/trust/evidence`", "", ""},
	{"evidence imports trust", "ward/internal/trust/evidence", "a.go", "import _ `ward/internal/trust/finding`", "floors", "a.go:4"},
	{"device imports device", "ward/internal/device/mqtt", "a.go", "import _ `ward/internal/device/tpm`", "floors", "a.go:4"},
	{"device imports a role", "ward/internal/device/mqtt", "a.go", "import _ `ward/internal/agent/journal`", "floors", "a.go:4"},
	{"a role imports a role", "ward/internal/agent/uplink", "a.go", "import _ `ward/internal/agent/journal`", "floors", "a.go:4"},
	{"a role imports its own client", "ward/internal/agent/localapi", "a.go", "import _ `ward/internal/agent/localapi/client`", "", ""},
	{"a role imports the backend", "ward/internal/agent/uplink", "a.go", "import _ `ward/internal/fleet/ingest`", "floors", "a.go:4"},
	{"a role imports the configuration", "ward/internal/agent/uplink", "a.go", "import _ `ward/internal/config`", "floors", "a.go:4"},
	{"the daemon imports all beneath it", "ward/internal/daemon", "a.go", "import (\n\t_ `ward/internal/agent/uplink`\n\t_ `ward/internal/config`\n)", "", ""},
	{"the daemon imports the lab", "ward/internal/daemon", "a.go", "import _ `ward/internal/lab/vm`", "floors", "a.go:4"},
	{"the lab imports the daemon", "ward/internal/lab", "a.go", "import _ `ward/internal/daemon`", "", ""},
	{"anything imports a command", "ward/internal/lab", "a.go", "import _ `ward/cmd/wardlab`", "floors", "a.go:4"},
	{"a package outside the floors", "ward/pkg/thing", "a.go", "", "floors", "ward/pkg/thing"},
	{"the backend uses the link", "ward/internal/fleet/ingest", "a.go", "import _ `ward/internal/device/mqtt`", "", ""},
	{"the backend uses the TPM", "ward/internal/fleet/ingest", "a.go", "import _ `ward/internal/device/tpm`", "fleet uses the link alone", "a.go:4"},
	{"pure imports os", "ward/internal/format/pcr", "a.go", "import (\n\t_ `fmt`\n\t_ `os`\n)", "pure imports", "a.go:6"},
	{"pure imports beneath net", "ward/internal/trust/release", "a.go", "import _ `net/url`", "pure imports", "a.go:4"},
	{"pure imports slog", "ward/internal/trust/release", "a.go", "import _ `log/slog`", "pure imports", "a.go:4"},
	{"pure imports unix", "ward/internal/format/ima", "a.go", "import _ `golang.org/x/sys/unix`", "pure imports", "a.go:4"},
	{"pure imports io/fs and crypto/rand", "ward/internal/trust/baseline", "a.go", "import (\n\t_ `io/fs`\n\t_ `crypto/rand`\n)", "", ""},
	{"IO above is free", "ward/internal/device/wal", "a.go", "import _ `os`\n\nfunc f() { go f() }", "", ""},
	{"pure reads the clock", "ward/internal/trust/release", "a.go", "import `time`\n\nvar now = time.Now", "pure calls", "a.go:6"},
	{"pure reads the clock by another name", "ward/internal/trust/release", "a.go", "import clock `time`\n\nvar d = clock.Since(clock.Time{})", "pure calls", "a.go:6"},
	{"pure takes a time", "ward/internal/trust/release", "a.go", "import `time`\n\nfunc f(now time.Time) time.Time { return now.Add(time.Hour) }", "", ""},
	{"another Now is no clock", "ward/internal/trust/release", "a.go", "import `io`\n\nvar x struct{ Now io.Reader }\n\nvar _ = x.Now", "", ""},
	{"pure starts a goroutine", "ward/internal/format/ima", "a.go", "func f() {\n\tgo f()\n}", "pure calls", "a.go:5"},
	{"x509 complete", "ward/internal/trust/quote", "a.go", "import `crypto/x509`\n\nvar o = x509.VerifyOptions{Roots: nil, CurrentTime: t}", "", ""},
	{"x509 without time", "ward/internal/agent/identity", "a.go", "import `crypto/x509`\n\nvar o = x509.VerifyOptions{Roots: nil}", "x509 roots and time", "a.go:6"},
	{"x509 filled later", "ward/internal/agent/identity", "a.go", "import `crypto/x509`\n\nvar o x509.VerifyOptions", "x509 roots and time", "a.go:6"},
	{"x509 roots of the host", "ward/internal/device/mqtt", "a.go", "import `crypto/x509`\n\nvar p, _ = x509.SystemCertPool()", "x509 roots and time", "a.go:6"},
	{"paho in its place", "ward/internal/device/mqtt", "a.go", "import _ `github.com/eclipse/paho.mqtt.golang`", "", ""},
	{"paho elsewhere", "ward/internal/agent/uplink", "a.go", "import _ `github.com/eclipse/paho.mqtt.golang`", "sole importer", "a.go:4"},
	{"TPM structures in a format", "ward/internal/trust/quote", "a.go", "import _ `github.com/google/go-tpm/tpm2`", "", ""},
	{"TPM transport in its place", "ward/internal/device/tpm", "a.go", "import _ `github.com/google/go-tpm/tpm2/transport/linuxtpm`", "", ""},
	{"TPM transport elsewhere", "ward/internal/lab", "a.go", "import _ `github.com/google/go-tpm/tpm2/transport`", "sole importer", "a.go:4"},
	{"exec in the lab", "ward/internal/lab/vm", "a.go", "import _ `os/exec`", "", ""},
	{"exec in the daemon", "ward/internal/daemon", "a.go", "import _ `os/exec`", "sole importer", "a.go:4"},
	{"cgo", "ward/internal/device/tpm", "a.go", "import `C`", "sole importer", "a.go:4"},
	{"reboot in a role", "ward/internal/agent/health", "a.go", "import `golang.org/x/sys/unix`\n\nfunc f() { unix.Reboot(0) }", "no power to harm", "a.go:6"},
	{"a permission event in a role", "ward/internal/device/fanotify", "a.go", "import `golang.org/x/sys/unix`\n\nconst m = unix.FAN_OPEN_PERM", "no power to harm", "a.go:6"},
	{"reboot in the guest's init", "ward/board/qemu-x86_64/guest/init", "a.go", "import `golang.org/x/sys/unix`\n\nfunc f() { unix.Reboot(0) }", "", ""},
	{"a signal's name does no harm", "ward/cmd/wardctl", "a.go", "import `syscall`\n\nvar s = syscall.SIGTERM", "", ""},
	{"a network listener on the device", "ward/internal/agent/localapi", "a.go", "import `net`\n\nvar l, _ = net.Listen(`tcp`, `:80`)", "no listener", "a.go:6"},
	{"a listener of unknown network", "ward/internal/agent/localapi", "a.go", "import `net`\n\nvar l, _ = net.Listen(x, `:80`)", "no listener", "a.go:6"},
	{"a UNIX socket", "ward/internal/agent/localapi", "a.go", "import `net`\n\nvar l, _ = net.Listen(\"unix\", `/run/x`)", "", ""},
	{"a bound socket", "ward/internal/device/uevent", "a.go", "import `golang.org/x/sys/unix`\n\nvar err = unix.Bind(x, y)", "no listener", "a.go:6"},
	{"the kernel's multicast", "ward/internal/device/netlink", "a.go", "import `golang.org/x/sys/unix`\n\nvar err = unix.Bind(x, y)", "", ""},
	{"a listener beside the kernel's multicast", "ward/internal/device/netlink", "a.go", "import `golang.org/x/sys/unix`\n\nvar err = unix.Listen(x, y)", "no listener", "a.go:6"},
	{"a listener in the backend", "ward/internal/fleet/registrar", "a.go", "import `net`\n\nvar l, _ = net.Listen(`tcp`, `:80`)", "", ""},
	{"a fake in shipped code", "ward/internal/device/wal", "a.go", "import _ `ward/internal/device/wal/waltest`", "tests only", "a.go:4"},
	{"testing in shipped code", "ward/internal/device/wal", "a.go", "import _ `testing`", "tests only", "a.go:4"},
	{"a fake uses testing", "ward/internal/device/wal/waltest", "a.go", "import _ `testing`", "", ""},
	{"a package named util", "ward/internal/device/util", "a.go", "", "names", "ward/internal/device/util"},
	{"a dot import", "ward/internal/device/wal", "a.go", "import . `io`", "no dot import", "a.go:4"},
	{"a main of 80 lines", "ward/cmd/wardctl", "main.go", strings.Repeat("\n", 76), "", ""},
	{"a main of 81 lines", "ward/cmd/wardctl", "main.go", strings.Repeat("\n", 77), "main size", "main.go"},
	{"a verb may be longer", "ward/cmd/wardctl", "status.go", strings.Repeat("\n", 100), "", ""},
	{"a file of 501 lines", "ward/internal/device/wal", "a.go", strings.Repeat("\n", 497), "file size", "a.go"},
}

// Verifies: SR-026
func TestEachRuleCanFail(t *testing.T) {
	seen := map[string]bool{"package size": true, "package comment": true}
	for _, row := range synthetic {
		t.Run(row.name, func(t *testing.T) {
			text := "// Package x is for a test.\npackage x\n\n" + row.text + "\n"
			p, err := parse(row.path, map[string]string{row.file: text})
			if err != nil {
				t.Fatal(err)
			}
			broken := judge(p, rules)
			if row.rule == "" {
				if len(broken) > 0 {
					t.Errorf("want nothing reported, got %q", broken)
				}
				return
			}
			seen[row.rule] = true
			if len(broken) == 0 || !slices.ContainsFunc(broken, func(line string) bool {
				return strings.HasPrefix(line, row.at+": ") && strings.Contains(line, "["+row.rule+": ")
			}) {
				t.Errorf("want rule %q reported at %s, got %q", row.rule, row.at, broken)
			}
		})
	}
	for _, r := range rules {
		if !seen[r.name] {
			t.Errorf("no row breaks rule %q", r.name)
		}
		if r.reason == "" || strings.Contains(r.reason, "\n") {
			t.Errorf("rule %q has no one-line reason", r.name)
		}
	}
}

func TestPackageRulesCanFail(t *testing.T) {
	half := "package x\n" + strings.Repeat("\n", 450)
	texts := map[string]string{"a.go": half, "b.go": half, "c.go": half, "d.go": half}
	p, err := parse("ward/internal/device/wal", texts)
	if err != nil {
		t.Fatal(err)
	}
	got := judge(p, rules)
	for _, want := range []string{"[package size: ", "[package comment: "} {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("want %s reported, got %q", want, got)
		}
	}
}
