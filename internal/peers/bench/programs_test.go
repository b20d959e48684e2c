package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
var shipped = []string{"wardd", "wardctl", "wardrelease", "wardfleet", "wardlab"}

// programs measures the programs as they ship: the daemon's first verdict and
// the sizes.
func programs(t *testing.T, b *table) {
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range shipped {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", filepath.Join(dir, name), "./cmd/"+name)
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
	for name, files := range map[string]interface{ CopyTo(string) error }{"security": tree{kernel.SecurityFS()}, "sys": tree{kernel.SysFS()}} {
		if err := files.CopyTo(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
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
securityfs = "%[1]s/security"
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
	slices.Sort(took)
	slices.Sort(tpmTook)
	b.budgeted(fmt.Sprintf("wardd from start to first verdict, %s", how),
		fmt.Sprintf("%.1fms, TPM beside it %.1fms", took[starts/2], tpmTook[starts/2]), took[starts/2], 60, "60ms")
}

type tree struct{ fsys interface{ fsOpen } }
