package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/device/tpm"
	"ward/internal/peers"
	"ward/internal/trust/appraisal/appraisaltest"
)

// shipped are the programs, as the Makefile builds them.
var shipped = []string{"wardd", "wardctl", "wardrelease", "wardfleet", "wardlab", "wardunlock"}

// programs measures the programs as they ship: the daemon's first verdict and
// the sizes.
func programs(t *testing.T, b *table) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range shipped {
		cmd := exec.Command("make", "build", "PROGRAMS="+name, "BIN="+dir)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
	}
	wardd := filepath.Join(dir, "wardd")
	firstVerdict(t, b, wardd, "without a TPM", "/none/tpm")
	firstVerdict(t, b, wardd, "TPM's time excluded", softwareTPM(t))

	const mebi = 1 << 20
	for _, name := range shipped {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		size := float64(info.Size()) / mebi
		if name == "wardd" {
			b.budgeted("size of "+name, fmt.Sprintf("%.1f MiB", size), size, 10, "10 MiB")
			continue
		}
		b.noted("size of "+name, fmt.Sprintf("%.1f MiB", size))
	}
}

// firstVerdict starts the daemon several times on a device on paper and takes
// the median of what it says that its first verdict took.
func firstVerdict(t *testing.T, b *table, wardd, how, tpmDevice string) {
	d := device(t)
	kernel := securityfstest.Boot(t, d)
	dir, err := os.MkdirTemp("", "ward") // a UNIX socket's path may have 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(
		os.CopyFS(filepath.Join(dir, "sys"), kernel.SysFS()),
		os.CopyFS(filepath.Join(dir, "sys", "kernel", "security"), kernel.SecurityFS()),
		os.Mkdir(filepath.Join(dir, "state"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "release.dsse"), d.Envelope(t))
	writeFile(t, filepath.Join(dir, "baseline"), d.Baseline)
	writeFile(t, filepath.Join(dir, "trust/release/key.pem"), appraisaltest.KeyPEM(t, d.Key))
	config := filepath.Join(dir, "wardd.toml")
	writeFile(t, config, fmt.Appendf(nil, `version = 1
[paths]
state = "%[1]s/state"
socket = "%[1]s/wardd.sock"
release = "%[1]s/release.dsse"
baseline = "%[1]s/baseline"
trust = "%[1]s/trust"
sysfs = "%[1]s/sys"
[tpm]
device = "%[2]s"
[uplink]
enabled = false
`, dir, tpmDevice))

	const starts = 7
	var took, tpmTook []float64
	for range starts {
		v := startOnce(t, wardd, dir, config)
		took, tpmTook = append(took, v.TookMS), append(tpmTook, v.TPMMS)
	}
	b.budgeted(fmt.Sprintf("wardd from start to first verdict, %s", how),
		fmt.Sprintf("%.1fms, TPM beside it %.1fms", median(took), median(tpmTook)), median(took), 60, "60ms")
}

// patience bounds every wait; the daemon answers within some tens of milliseconds.
const patience = 20 * time.Second

// startOnce starts the daemon, waits for its verdict and ends it.
func startOnce(t *testing.T, wardd, dir, config string) localapi.Verdict {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(wardd, "-config", config)
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := localapi.NewClient(filepath.Join(dir, "wardd.sock"))
	var verdict localapi.Verdict
	for verdict.TookMS == 0 && ctx.Err() == nil {
		if s, err := client.Status(ctx); err == nil {
			verdict = s.Verdict
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil || verdict.TookMS == 0 {
		t.Fatalf("the first verdict was not measured: %+v, %v: %s", verdict, err, log.String())
	}
	return verdict
}

// softwareTPM runs a TPM with Ward's keys and returns its socket.
func softwareTPM(t *testing.T) string {
	t.Helper()
	socket := peers.StartTPM(t)
	d, err := tpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	return socket
}
