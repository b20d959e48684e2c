package shipped

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ward/internal/config"
)

const layer = "../../yocto/meta-ward/"

// Verifies: SR-016 SR-105
func TestUnitGivesNoMoreThanTheStartNeeds(t *testing.T) {
	unit := read(t, unitFile)
	lines := strings.Split(unit, "\n")
	const four = "CAP_SYS_ADMIN CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_AUDIT_READ"
	for _, want := range []string{
		"User=ward", "CapabilityBoundingSet=" + four, "AmbientCapabilities=" + four, "NoNewPrivileges=yes", "ProtectSystem=strict",
		"DevicePolicy=closed", "DeviceAllow=/dev/tpmrm0 rw", "DeviceAllow=/dev/mapper/control r",
		"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK", "SocketBindDeny=any",
		"MemoryMax=64M", "CPUQuota=25%", "CPUWeight=idle", "IOSchedulingClass=idle", "WatchdogSec=20s", "Restart=always",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("wardd.service lacks the line %s", want)
		}
	}
	// What the daemon watches must not be hidden from it.
	for _, line := range lines {
		for _, hides := range []string{"ProtectHome=yes", "ProtectHome=tmpfs", "ProtectKernelModules=yes", "PrivateTmp=", "ProtectProc=", "ProcSubset=", "InaccessiblePaths=", "TemporaryFileSystem=", "RootDirectory=", "FailureAction=", "StartLimitAction="} {
			if strings.HasPrefix(line, hides) {
				t.Errorf("wardd.service has the line %s", line)
			}
		}
	}
}

const unitFile = layer + "recipes-security/ward/files/wardd.service"

// systemd's own judgement: 0 is locked up, 10 can do all. Most of what is left is
// the network, the four capabilities of the start (the daemon gives two up, which
// systemd cannot see), and that nothing is hidden from what is to watch it all.
//
// Verifies: SR-105
func TestUnitsExposure(t *testing.T) {
	const most = 3.5
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd is not installed: run 'make deps'")
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", unitFile).CombinedOutput()
	_, told, _ := strings.Cut(string(out), "Overall exposure level for wardd.service: ")
	level, _, _ := strings.Cut(told, " ")
	exposure, parseErr := strconv.ParseFloat(level, 64)
	if err != nil || parseErr != nil {
		t.Fatalf("judge the unit: %v, %v: %s", err, parseErr, out)
	}
	if exposure > most {
		t.Errorf("exposure %.1f, at most %.1f", exposure, most)
	}
	t.Logf("exposure %.1f", exposure)
}

// systemd reads the unit without a complaint about a line.
func TestUnitIsRead(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd is not installed: run 'make deps'")
	}
	out, _ := exec.Command("systemd-analyze", "verify", "--man=no", unitFile).CombinedOutput()
	if strings.Contains(string(out), "wardd.service:") && strings.Contains(string(out), "ignoring") {
		t.Errorf("systemd ignores a line: %s", out)
	}
}

func TestLayerConfigurationIsBringUpWithoutFleet(t *testing.T) {
	got, err := config.Load(layer + "recipes-security/ward-config/files/wardd.toml")
	if err != nil {
		t.Fatal(err)
	}
	if !got.BringUp || got.Uplink.Enabled {
		t.Errorf("got %+v", got)
	}
}

// The layer and the reference device measure the same things.
func TestLayerPolicyIsThatOfTheReferenceDevice(t *testing.T) {
	got := rules(read(t, layer+"recipes-security/ward-config/files/ima-policy"))
	if want := rules(read(t, "../../board/qemu-x86_64/ima-policy")); !slices.Equal(got, want) {
		t.Errorf("layer: %q\nreference device: %q", got, want)
	}
}

// The daemon knows its groups by number: the layer and the reference device make
// them with these.
func TestGroupsAreThoseOfTheDaemon(t *testing.T) {
	daemon := read(t, "../daemon/assemble.go")
	recipe := read(t, layer+"recipes-security/ward/ward_git.bb")
	image := read(t, "../lab/image/rootfs.go")
	for name, constant := range map[string]string{"wardsvc": "readerGroup", "wardsign": "signerGroup"} {
		_, rest, ok := strings.Cut(daemon, "const "+constant+" = ")
		number, _, _ := strings.Cut(rest, "\n")
		if !ok || number == "" {
			t.Fatalf("the daemon has no %s", constant)
		}
		if want := "--gid " + number + " " + name; !strings.Contains(recipe, want) {
			t.Errorf("the recipe lacks %q", want)
		}
		if want := name + ":x:" + number + ":"; !strings.Contains(image, want) {
			t.Errorf("the reference device lacks %q", want)
		}
	}
}

// The programs of a device are compiled alike by the Makefile, for the virtual device
// and by the layer.
func TestFlagsAreTheSameEverywhere(t *testing.T) {
	for _, file := range []string{"../../Makefile", "../lab/image/programs.go", layer + "recipes-security/ward/ward_git.bb"} {
		text := read(t, file)
		for _, flag := range []string{"-gcflags=all=-l", "-funcalign=4", "nethttpomithttp2"} {
			if !strings.Contains(text, flag) {
				t.Errorf("%s lacks %s, which the others have", file, flag)
			}
		}
	}
}

// rules drops the comments of an IMA policy.
func rules(policy string) []string {
	var all []string
	for line := range strings.Lines(policy) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

func TestLayerDownloadsTheModulesOfGoMod(t *testing.T) {
	list := read(t, layer+"recipes-security/ward/ward-modules.inc")
	read(t, "../../go.mod") // what go list reads is hidden from the test cache
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}};version={{.Version}};{{end}}{{end}}", "./cmd/wardd", "./cmd/wardctl")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := strings.Fields(string(out))
	slices.Sort(linked)
	linked = slices.Compact(linked)
	if len(linked) < 4 {
		t.Fatalf("go list names the modules %q: too few to be all", linked)
	}
	for _, module := range linked {
		if !strings.Contains(list, fmt.Sprintf("gomod://%ssha256sum=", module)) {
			t.Errorf("ward-modules.inc lacks %s: write it anew with make yocto-modules", module)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
