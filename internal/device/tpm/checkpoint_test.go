package tpm_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm"
	"ward/internal/trust/checkpoint"
)

// certifies checks a certificate as a reader of the journal does, who has the
// attestation key's public part alone.
func certifies(t testing.TB, ak *ecdsa.PublicKey, c tpm.Certification, qualifying [32]byte) bool {
	t.Helper()
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](c.Attest)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](c.Signature)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := signature.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(ec.SignatureR.Buffer), new(big.Int).SetBytes(ec.SignatureS.Buffer)})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(c.Attest)
	return attest.Magic == tpm2.TPMGeneratedValue && attest.Type == tpm2.TPMSTAttestNV &&
		string(attest.ExtraData.Buffer) == string(qualifying[:]) && ecdsa.VerifyASN1(ak, sum[:], der)
}

func TestCertifyCounter(t *testing.T) {
	d := manufactured(t)
	for _, durable := range []bool{false, true} {
		index, auth := tpm.JournalCounter(durable), tpm.NewAuth()
		if err := d.DefineNV(t.Context(), index, auth); err != nil {
			t.Fatal(err)
		}
		head := sha256.Sum256([]byte("chain head"))
		if _, err := d.CertifyCounter(t.Context(), index, auth, head); !errors.Is(err, tpm.ErrNeverWritten) {
			t.Errorf("before the first step: %v, want %v", err, tpm.ErrNeverWritten)
		}
		if _, err := d.Increment(t.Context(), index, auth); err != nil {
			t.Fatal(err)
		}
		first, err := d.CertifyCounter(t.Context(), index, auth, head)
		if err != nil {
			t.Fatal(err)
		}
		two, err := d.Increment(t.Context(), index, auth)
		if err != nil {
			t.Fatal(err)
		}
		if one, err := checkpoint.UntrustedValue(first.Attest); err != nil || two != one+1 {
			t.Errorf("durable %t: certified %d, then %d, %v", durable, one, two, err)
		}
		if !certifies(t, d.keys.AK.Public, first, head) {
			t.Error("the certificate does not verify")
		}
		other := head
		other[0] ^= 1
		first.Attest[len(first.Attest)-1] ^= 1
		if certifies(t, d.keys.AK.Public, first, head) || certifies(t, d.keys.AK.Public, first, other) {
			t.Error("a changed certificate verifies")
		}
		if _, err := d.CertifyCounter(t.Context(), index, nil, head); err == nil {
			t.Error("certified without the counter's authorisation")
		}
	}
}

// powered runs a software TPM whose power can be cut.
func powered(t *testing.T, dir string) (*tpm.TPM, func()) {
	t.Helper()
	socket := filepath.Join(dir, "socket")
	os.Remove(socket)
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--flags", "startup-clear,not-need-init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cut := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(cut)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("swtpm does not listen")
		}
	}
	chip, err := tpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Close() })
	return chip, cut
}

// An orderly counter lives in memory: a power cut makes it jump ahead, never
// back, and the other one stays where it was.
func TestPowerCutMovesTheOrderlyCounterAheadOnly(t *testing.T) {
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	chip, cut := powered(t, dir)
	if _, err := chip.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	auth := tpm.NewAuth()
	before := make(map[bool]uint64)
	for _, durable := range []bool{false, true} {
		if err := chip.DefineNV(t.Context(), tpm.JournalCounter(durable), auth); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if before[durable], err = chip.Increment(t.Context(), tpm.JournalCounter(durable), auth); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut()
	chip, _ = powered(t, dir)
	for durable, was := range before {
		now, err := chip.ReadCounter(t.Context(), tpm.JournalCounter(durable), auth)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("durable %t: %d before the power cut, %d after", durable, was, now)
		if durable && now != was || !durable && now <= was {
			t.Errorf("durable %t: %d before the power cut, %d after", durable, was, now)
		}
	}
}

// docs/tpm.md states the same numbers.
func TestCheckpointCosts(t *testing.T) {
	d, inject := faulty(t)
	keys, err := d.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.Pin(keys.SRK)
	index, auth := tpm.JournalCounter(false), tpm.NewAuth()
	if err := d.DefineNV(t.Context(), index, auth); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Increment(t.Context(), index, auth); err != nil {
		t.Fatal(err)
	}
	recorded := inject.Record()
	if _, err := d.CertifyCounter(t.Context(), index, auth, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	certify := len(recorded())
	recorded = inject.Record()
	if _, err := d.Increment(t.Context(), index, auth); err != nil {
		t.Fatal(err)
	}
	if step := len(recorded()); certify != 5 || step != 6 {
		t.Errorf("%d commands to certify and %d to step, want 5 and 6", certify, step)
	}
}
