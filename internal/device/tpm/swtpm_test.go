package tpm_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/device/tpm"
	"ward/internal/device/tpm/tpmtest"
)

// startTPM runs a software TPM for the test and returns its socket. With a
// maker it has EK certificates, as manufactured.
func startTPM(t testing.TB, maker bool) string {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed: run 'make deps'")
	}
	// A UNIX socket's path may have 107 characters; the test's folder can be
	// longer.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if maker {
		manufacture(t, dir, state)
	}
	socket, _ := powerOn(t, dir, state)
	return socket
}

// powerOn runs a software TPM on its state and returns its socket. Without
// warning, off cuts its power.
func powerOn(t testing.TB, dir, state string) (socket string, off func()) {
	t.Helper()
	socket = filepath.Join(dir, "socket")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state,
		"--server", "type=unixio,path="+socket, "--flags", "startup-clear,not-need-init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	off = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = os.Remove(socket) })
	t.Cleanup(off)
	for range 100 {
		// The socket's file is there before swtpm listens on it.
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return socket, off
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("swtpm does not listen")
	return "", nil
}

func manufacture(t testing.TB, dir, state string) {
	t.Helper()
	ca := filepath.Join(dir, "ca")
	if err := os.Mkdir(ca, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	localca := write("localca.conf", "statedir = "+ca+"\nsigningkey = "+ca+"/key.pem\nissuercert = "+ca+"/cert.pem\ncertserial = "+ca+"/serial\n")
	options := write("options.conf", "--platform-manufacturer Ward\n--platform-version 1\n--platform-model test\n")
	setup := write("setup.conf", "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = "+localca+"\ncreate_certs_tool_options = "+options+"\n")
	cmd := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", state, "--create-ek-cert", "--config", setup, "--pcr-banks", "sha256")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
}

func open(t testing.TB, socket string) *tpm.TPM {
	t.Helper()
	d, err := tpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// faulty is a software TPM behind a fault injector.
func faulty(t testing.TB) (*tpm.TPM, *tpmtest.Injector) {
	t.Helper()
	conn, err := linuxudstpm.Open(startTPM(t, false))
	if err != nil {
		t.Fatal(err)
	}
	inject := tpmtest.New(conn)
	d := tpm.New(func() (tpm.Transport, error) { return inject.Open(), nil })
	t.Cleanup(func() { d.Close() })
	return d, inject
}
