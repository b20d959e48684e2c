package tpm

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"ward/internal/format/pcr"
)

// A TPM that comes late is found, one that hangs up is opened anew.
//
// Verifies: SR-017
func TestLazyOpensAnew(t *testing.T) {
	dir, err := os.MkdirTemp("", "tpm") // short enough for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tpm")
	chip := NewLazy(path)
	read := func() error {
		_, err := chip.ReadPCRs(t.Context(), pcr.SHA256, []int{0})
		return err
	}
	if err := read(); !errors.Is(err, ErrAbsent) {
		t.Fatalf("no TPM gives %v, want ErrAbsent", err)
	}
	if _, err := chip.AttestationKey(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Fatalf("no TPM gives %v, want ErrAbsent", err)
	}

	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // a TPM that hangs up on whoever calls
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	for range 2 {
		if err := read(); !errors.Is(err, ErrTransport) {
			t.Fatalf("a TPM that hangs up gives %v, want ErrTransport", err)
		}
		if chip.open != nil {
			t.Fatal("a TPM that does not answer is kept open")
		}
	}
	if _, err := chip.AttestationKey(t.Context()); !errors.Is(err, ErrTransport) {
		t.Errorf("a TPM that hangs up gives %v, want ErrTransport", err)
	}
	if chip.open != nil {
		t.Error("a TPM that does not answer is kept open")
	}

	first, err := chip.get()
	if err != nil {
		t.Fatal(err)
	}
	chip.drop(nil)
	chip.drop(ErrBusy)
	if again, err := chip.get(); err != nil || again != first {
		t.Errorf("a TPM that answers is opened anew: %v", err)
	}
	chip.drop(ErrTransport)
	if again, err := chip.get(); err != nil || again == first {
		t.Errorf("a TPM that was dropped is used again: %v", err)
	}
	chip.drop(ErrTransport)
}
