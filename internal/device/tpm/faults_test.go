package tpm_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"ward/internal/device/tpm"
	"ward/internal/device/tpm/tpmtest"
	"ward/internal/format/pcr"
	"ward/internal/trust/credential"
	"ward/internal/trust/policy"
)

func bigInt(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// duplicatePolicy asks for a policy session that allows duplication only.
func duplicatePolicy(conn transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicyCommandCode{PolicySession: session, Code: tpm2.TPMCCDuplicate}.Execute(conn)
	return err
}

// Verifies: SR-017
func TestBusyTPMIsAskedAgain(t *testing.T) {
	d, inject := faulty(t)
	for _, rc := range []tpm2.TPMRC{
		tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate,
		tpm2.TPMRCNVUnavailable, tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCMemory,
		tpm2.TPMRCObjectHandles, tpm2.TPMRCSessionHandles, tpm2.TPMRCCanceled,
	} {
		inject.Inject(tpmtest.Code(uint32(rc)), tpmtest.Code(uint32(rc)), tpmtest.Code(uint32(rc)))
		if _, err := d.ReadPCRs(t.Context(), pcr.SHA256, []int{0}); err != nil {
			t.Errorf("%v three times: %v", rc, err)
		}
	}
	for rc, want := range map[tpm2.TPMRC]error{
		tpm2.TPMRCRetry: tpm.ErrBusy, tpm2.TPMRCSessionMemory: tpm.ErrExhausted, tpm2.TPMRCObjectHandles: tpm.ErrExhausted,
		tpm2.TPMRCNVRate: tpm.ErrNVRate, tpm2.TPMRCNVUnavailable: tpm.ErrNVUnavailable,
	} {
		inject.Always(tpmtest.Code(uint32(rc)))
		before := inject.Sent()
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			if _, err := d.ReadPCRs(t.Context(), pcr.SHA256, []int{0}); !errors.Is(err, want) {
				t.Errorf("%v for ever: %v, want %v", rc, err, want)
			}
			if took := time.Since(begun); took < 3*time.Second || took > 10*time.Second {
				t.Errorf("%v for ever: given up after %s, want some 6 s", rc, took)
			}
		})
		if n := inject.Sent() - before; n > 25 {
			t.Errorf("%d attempts", n)
		}
	}
}

// Verifies: SR-017
func TestFaultsAreNamed(t *testing.T) {
	d, inject := faulty(t)
	_, key, err := d.ProvisionSigning(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := d.NewSigner(t.Context(), key, 5*time.Second)
	digest := sha256.Sum256(nil)
	for _, c := range []struct {
		name  string
		fault tpmtest.Fault
		want  error
	}{
		{"empty answer", tpmtest.Raw(nil), tpm.ErrResponse},
		{"answer of a header's half", tpmtest.Cut(5), tpm.ErrResponse},
		{"answer cut short", tpmtest.Cut(40), tpm.ErrResponse},
		{"answer too long", tpmtest.Raw(make([]byte, 5000)), tpm.ErrResponse},
		{"success with nothing behind it", tpmtest.Code(0), nil},
		{"signature changed", tpmtest.Flip(8), tpm.ErrResponse},
		{"device gone", tpmtest.Gone(), tpm.ErrTransport},
		{"lockout", tpmtest.Code(uint32(tpm2.TPMRCLockout)), tpm.ErrLockout},
		{"authorisation", tpmtest.Code(0x98e), tpm.ErrAuthorization},
		{"no key any more", tpmtest.Code(0x18b), tpm.ErrNoKey},
		{"failure mode", tpmtest.Code(uint32(tpm2.TPMRCFailure)), tpm.ErrFailure},
		{"firmware update of the TPM", tpmtest.Code(uint32(tpm2.TPMRCUpgrade)), tpm.ErrFailure},
		{"no startup after a reset", tpmtest.Code(uint32(tpm2.TPMRCInitialize)), tpm.ErrNotStarted},
		{"object gone", tpmtest.Code(uint32(tpm2.TPMRCReferenceH0)), tpm.ErrReset},
		{"session gone", tpmtest.Code(uint32(tpm2.TPMRCReferenceS0)), tpm.ErrReset},
		{"contexts too old", tpmtest.Code(uint32(tpm2.TPMRCContextGap)), tpm.ErrExhausted},
	} {
		inject.Inject(c.fault)
		_, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if _, err := s.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			t.Errorf("after %s: %v", c.name, err)
		}
	}
	if inject.Opened() < 2 {
		t.Error("the transport was not opened anew after it had failed")
	}
}

// Verifies: SR-017
func TestHangingTPMHoldsNobody(t *testing.T) {
	d, inject := faulty(t)
	release := make(chan struct{})
	inject.Inject(tpmtest.Hang(release))
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begun := time.Now()
		_, err := d.ReadPCRs(ctx, pcr.SHA256, []int{0})
		cancel()
		if !errors.Is(err, tpm.ErrTimeout) || time.Since(begun) > time.Second {
			t.Errorf("hanging TPM: %v after %s, want ErrTimeout", err, time.Since(begun))
		}
	}
	close(release)
	if _, err := d.ReadPCRs(t.Context(), pcr.SHA256, []int{0}); err != nil {
		t.Errorf("after the TPM came back: %v", err)
	}
	if inject.Clashed() {
		t.Error("two commands were sent at the same time")
	}
}

// The reporting key, and the service key in an approved boot state, do TLS 1.3 on
// both sides.
//
// Verifies: SR-011, SR-012
func TestKeyInTPMDoesMutualTLS(t *testing.T) {
	d := manufactured(t)
	reporting, err := d.Signer(t.Context(), tpm.HandleSigning)
	if err != nil {
		t.Fatal(err)
	}
	bootPolicy := policy.BootPolicy(d.key)
	blob, err := d.CreateKey(t.Context(), &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	boot := d.approve(t, 1)
	service, err := d.BlobSigner(t.Context(), blob, func() tpm.Boot { return boot }, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]crypto.Signer{"reporting": reporting, "service": service} {
		t.Run(name, func(t *testing.T) { mutualTLS(t, s) })
	}
}

func mutualTLS(t *testing.T, s crypto.Signer) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pump-1"}, DNSNames: []string{"broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.Public(), s)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s, Leaf: leaf}
	for range 5 {
		a, b := net.Pipe()
		server := tls.Server(a, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
		client := tls.Client(b, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: "broker"})
		done := make(chan error, 1)
		go func() {
			_, err := io.WriteString(server, "hello")
			done <- err
		}()
		got := make([]byte, 5)
		if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
			t.Fatalf("read: %v, %q", err, got)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		a.Close()
		b.Close()
	}
}

func FuzzResponses(f *testing.F) {
	f.Add(tpmtest.Response(0))
	f.Add([]byte{0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, answer []byte) {
		inject := tpmtest.New(nil)
		inject.Always(tpmtest.Raw(answer))
		d := tpm.New(func() (tpm.Transport, error) { return inject.Open(), nil })
		defer d.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := d.ReadPublic(ctx, tpm.HandleAK); err == nil {
			t.Error("a key was read")
		}
		if v, err := d.ReadPCRs(ctx, pcr.SHA256, []int{0, 7}); err == nil && len(v) != 2 {
			t.Errorf("%d registers", len(v))
		}
		_, _ = d.EKCertificate(ctx)
		_, _ = d.ProvisionKeys(ctx)
		if ek, err := d.Endorsement(ctx); err == nil {
			t.Errorf("endorsement key %+v", ek)
		}
		if _, _, err := d.Quote(ctx, [32]byte{}, pcr.SHA256, []int{0}); err == nil {
			t.Error("a quote was made")
		}
		if secret, err := d.Unseal(ctx, tpm.Blob{}, nil); err == nil {
			t.Errorf("unsealed %x", secret)
		}
		if n, err := d.ReadCounter(ctx, tpm.JournalCounter(true), nil); err == nil {
			t.Errorf("counter %d", n)
		}
		_, _ = d.Status(ctx)
	})
}

// BenchmarkEnrolment is what enrolment asks of the TPM: endorsement key, credential,
// service key and its certification.
func BenchmarkEnrolment(b *testing.B) {
	d := manufactured(b)
	bootPolicy := policy.BootPolicy(d.key)
	for b.Loop() {
		ek := endorsementOf(b, d.TPM, profiles()[0])
		blob, err := credential.Make(rand.Reader, ek.Public, d.keys.AK.Name, []byte("credential"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Activate(b.Context(), ek, tpm.HandleAK, blob); err != nil {
			b.Fatal(err)
		}
		key, err := d.CreateKey(b.Context(), &bootPolicy)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.CertifyKey(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	d := open(b, startTPM(b, false))
	if _, _, err := d.ProvisionSigning(b.Context()); err != nil {
		b.Fatal(err)
	}
	s, err := d.Signer(b.Context(), tpm.HandleSigning)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for b.Loop() {
		if _, err := s.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}
