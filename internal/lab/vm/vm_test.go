package vm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/lab/tool"
)

func TestArguments(t *testing.T) {
	c := Config{Device: &Device{Dir: "/tmp/a,b"}, Firmware: "/fw", BrokerPort: 4711, CPUs: 2, MemoryMiB: 512}
	joined := strings.Join(arguments(c, "/s"), " ")
	for _, want := range []string{
		"smm=on", "cfi.pflash01,property=secure,value=on", "file=/tmp/a,,b/disk.img", "-nodefaults", "bootindex=0",
		"restrict=on,guestfwd=tcp:10.0.2.100:8883-cmd:socat - TCP:127.0.0.1:4711", "tpm-crb", "-no-reboot",
	} {
		if !strings.Contains(joined, want) {
			t.Errorf("no %q in %s", want, joined)
		}
	}
	c.NoTPM, c.NoNetwork = true, true
	joined = strings.Join(arguments(c, "/s"), " ")
	for _, not := range []string{"tpm-crb", "netdev"} {
		if strings.Contains(joined, not) {
			t.Errorf("%q in %s", not, joined)
		}
	}
	c.NoNetwork, c.BrokerPort = false, 0
	if joined = strings.Join(arguments(c, "/s"), " "); strings.Contains(joined, "guestfwd") || !strings.Contains(joined, "restrict=on") {
		t.Errorf("a device without a broker must have a closed network: %s", joined)
	}
}

func TestTailKeepsTheNewest(t *testing.T) {
	tl := newTail(10)
	for range 100 {
		_, _ = tl.Write([]byte("0123456789abcdef\n"))
	}
	if got, _ := tl.snapshot(); got != "789abcdef\n" {
		t.Errorf("got %q", got)
	}
	if got := tl.lastLine(); got != "789abcdef" {
		t.Errorf("last line %q", got)
	}
}

func TestProcessDiesWithItsGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p, err := startProcess("sh", nil, "-c", "sleep 100 & echo $! > "+file+"; wait")
	if err != nil {
		t.Fatal(err)
	}
	var pid string
	for range 200 {
		if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
			pid = strings.TrimSpace(string(b))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.kill()
	time.Sleep(50 * time.Millisecond)
	if state, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(state), ") Z ") {
		t.Errorf("the child %s outlived its parent: %s", pid, state)
	}
}

func TestProcessFailureHasTheLastLine(t *testing.T) {
	p, err := startProcess("sh", nil, "-c", "echo first >&2; echo why >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = waitSocket(t.Context(), p, filepath.Join(t.TempDir(), "none"))
	if err == nil || !strings.Contains(err.Error(), "why") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestWaitSocketEndsWithItsContext(t *testing.T) {
	p, err := startProcess("sleep", nil, "100")
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := waitSocket(ctx, p, filepath.Join(t.TempDir(), "none")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A manufactured TPM has certificates of the lab's own maker, and can be served
// without a machine around it.
func TestManufacture(t *testing.T) {
	for _, p := range []string{"swtpm", "swtpm_setup", "swtpm_localca"} {
		if _, err := tool.Look(p); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	vars := filepath.Join(dir, "vars")
	if err := os.WriteFile(vars, []byte("store"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca")
	d, err := NewDevice(t.Context(), filepath.Join(dir, "device"), DeviceConfig{Variables: vars, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := os.ReadDir(d.EKCertificates())
	if err != nil || len(certs) < 2 {
		t.Errorf("%d EK certificates, %v", len(certs), err)
	}
	roots, err := MakerRoots(ca)
	if err != nil || !slices.ContainsFunc(roots, func(r string) bool { return strings.HasPrefix(r, ca) }) {
		t.Errorf("maker's roots %v, %v", roots, err)
	}
	socket, stop, err := ServeTPM(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(socket); err != nil || st.Mode()&os.ModeSocket == 0 {
		t.Errorf("socket: %v", err)
	}
	for range 2 { // each connection is served anew
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		// TPM2_GetRandom of eight bytes, TPM 2.0 Library Part 3.
		if _, err := conn.Write([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8}); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 20)
		if n, err := io.ReadFull(conn, answer); err != nil || !bytes.HasPrefix(answer, []byte{0x80, 1, 0, 0, 0, 20, 0, 0, 0, 0}) {
			t.Errorf("TPM2_GetRandom: %x, %v", answer[:n], err)
		}
		conn.Close()
	}
	stop()
	if _, err := os.Stat(filepath.Dir(socket)); err == nil {
		t.Error("the socket's directory is left over")
	}
	if _, err := OpenDevice(d.Dir); err == nil {
		t.Error("opening a device without a disk: no error")
	}
}
