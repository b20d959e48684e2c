package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/agent/localapi"
	"ward/internal/trust/finding"
)

// bareConfig is a device with nothing, in a folder.
const bareConfig = `version = 1
[paths]
state = "%[1]s/state"
socket = "%[1]s/s"
release = "%[1]s/none"
baseline = "%[1]s/none"
trust = "%[1]s/none"
sysfs = "%[1]s/none"
[tpm]
device = "%[1]s/none"
[uplink]
enabled = false
`

// The daemon as the unit and the virtual device's init start it: as a user of its
// own with four capabilities. Two stay on every thread; nothing is reported as too
// much, and nothing as missing.
//
// Verifies: SR-105 SR-106
func TestDaemonStartsWithFourCapabilitiesAndKeepsTwo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give capabilities")
	}
	const nobody = 65534
	programs := build(t)
	for _, row := range []struct {
		name  string
		with  []uintptr
		held  string
		blind int
	}{
		{"four", []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_PTRACE, unix.CAP_AUDIT_READ}, "0000000000080004", 0},
		{"none", nil, "0000000000000000", 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "ward")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			program, config := filepath.Join(dir, "wardd"), filepath.Join(dir, "wardd.toml")
			text, err := os.ReadFile(filepath.Join(programs, "wardd"))
			for _, err := range []error{
				err, os.WriteFile(program, text, 0o755), os.WriteFile(config, fmt.Appendf(nil, bareConfig, dir), 0o644), os.Chown(dir, nobody, nobody),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			cmd := exec.Command(program, "-config", config)
			cmd.Stderr = &log
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: row.with, Pdeathsig: syscall.SIGKILL,
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client := localapi.NewClient(filepath.Join(dir, "s"))
			var s localapi.Status
			// A finding that is raised later than the daemon looks at itself.
			for judged := false; !judged; time.Sleep(20 * time.Millisecond) {
				if s, err = client.Status(ctx); ctx.Err() != nil {
					t.Fatalf("the daemon does not answer: %v: %s", err, log.String())
				}
				judged = slices.ContainsFunc(s.Findings, func(c localapi.Condition) bool { return c.Code == finding.ReleaseNoTrust })
			}
			for _, f := range s.Findings {
				if f.Code == finding.DaemonPrivileged {
					t.Errorf("it reports privileges: %s", f.Detail)
				}
			}
			// Not every kernel has device-mapper, and not every one without it lacks the node.
			s.Blind = slices.DeleteFunc(s.Blind, func(b string) bool { return strings.HasPrefix(b, "the tables of device-mapper") })
			if row.blind != len(s.Blind) {
				t.Errorf("blind for %q, want %d things", s.Blind, row.blind)
			}
			threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
			if err != nil || len(threads) < 3 {
				t.Fatalf("threads %q, %v", threads, err)
			}
			for _, name := range threads {
				b, err := os.ReadFile(name)
				if err != nil {
					continue // the thread has ended
				}
				for _, line := range []string{"CapEff:\t" + row.held, "CapPrm:\t" + row.held, "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
					if !strings.Contains(string(b), line+"\n") {
						t.Errorf("a thread's status lacks %q", line)
					}
				}
			}
		})
	}
}
