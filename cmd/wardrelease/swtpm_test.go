package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/device/tpm"
	"ward/internal/format/tss2"
)

// startSWTPM runs a software TPM for a script: "swtpm NAME" sets $NAME to its
// socket.
func startSWTPM(ts *testscript.TestScript, _ bool, args []string) {
	// A UNIX socket's path may have 107 characters; the script's folder can be
	// longer.
	dir, err := os.MkdirTemp("", "tpm")
	ts.Check(err)
	ts.Defer(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "startup-clear,not-need-init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ts.Check(cmd.Start())
	ts.Defer(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 250 {
		// The socket's file is there before swtpm listens on it.
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			ts.Setenv(args[0], socket)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("swtpm does not listen")
}

func withTPM(ts *testscript.TestScript, name string, do func(context.Context, *tpm.TPM)) {
	chip, err := tpm.Open(ts.Getenv(name))
	ts.Check(err)
	defer chip.Close()
	do(context.Background(), chip)
}

// makeSRK gives a TPM the keys of a manufactured device: "srk NAME".
func makeSRK(ts *testscript.TestScript, _ bool, args []string) {
	withTPM(ts, args[0], func(ctx context.Context, chip *tpm.TPM) {
		_, err := chip.ProvisionKeys(ctx)
		ts.Check(err)
	})
}

// makeSealed writes the file of a sealed secret: "sealed NAME FILE".
func makeSealed(ts *testscript.TestScript, _ bool, args []string) {
	withTPM(ts, args[0], func(ctx context.Context, chip *tpm.TPM) {
		blob, err := chip.Seal(ctx, []byte("secret"), nil)
		ts.Check(err)
		f := tss2.File{Kind: tss2.Sealed, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), f.PEM(), 0o600))
	})
}
