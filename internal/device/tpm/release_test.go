package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
	"ward/internal/trust/release/releasetest"
)

// machine is a device that can be switched off and on: its TPM keeps its NV
// memory and forgets its registers.
type machine struct {
	*tpm.TPM
	dir, state string
	off        func()
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{dir: dir, state: filepath.Join(dir, "state"), off: func() {}}
	if err := os.Mkdir(m.state, 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

// boots cuts the power, switches on, and measures: each number extends its
// register once more.
func (m *machine) boots(t *testing.T, measured ...int) {
	t.Helper()
	if m.TPM != nil {
		_ = m.TPM.Close()
	}
	m.off()
	var socket string
	socket, m.off = powerOn(t, m.dir, m.state)
	extend(t, socket, measured...)
	m.TPM = open(t, socket)
}

// predicted are the registers of such a boot, as the build host computes them.
func predicted(measured ...int) pcr.Values {
	v := releasetest.Values(0, 0, 0)
	for _, n := range measured {
		v[n] = pcr.SHA256.Sum(append(v[n], bytes.Repeat([]byte{byte(n)}, 32)...))
	}
	return v
}

// A device's life with releases as they are made and shipped: a key and a secret
// made under release 1 work under release 2 by its signed policy, in no other
// state, and with release 1 until the counter has moved. The envelopes are read
// as the initramfs does, without release keys.
//
// Verifies: SR-037, SR-038, SR-012
func TestReleasesOverTheLifeOfADevice(t *testing.T) {
	key := releasetest.PolicyKey(t)
	ship := func(version string, index uint64, measured ...int) []byte {
		return releasetest.Envelope(t, releasetest.Approved(t, releasetest.Manifest(version, index, predicted(measured...))))
	}
	read := func(envelope []byte) *release.IdentityPolicy {
		t.Helper()
		p, err := release.ParseUntrustedIdentityPolicy(envelope, key)
		if err != nil || p == nil {
			t.Fatalf("%v, %v", p, err)
		}
		return p
	}
	const seven, eleven, twelve = 7, 11, 12
	first, second := ship("1.0", 1, seven, eleven), ship("2.0", 2, seven, eleven, eleven)

	m := newMachine(t)
	m.boots(t, seven, eleven)
	if _, err := m.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.DefineRollback(t.Context(), key, releasetest.Base); err != nil {
		t.Fatal(err)
	}
	bound := policy.BootPolicy(key)
	blob, err := m.CreateKey(t.Context(), &bound)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("the data partition's key")
	sealed, err := m.Seal(t.Context(), secret, &bound)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	try := func(step string, envelope []byte, want error) {
		t.Helper()
		boot := tpm.Boot{Key: key, Approvals: read(envelope).Approvals}
		got, err := m.Unseal(t.Context(), sealed, &boot)
		if !errors.Is(err, want) || (want == nil) != bytes.Equal(got, secret) {
			t.Errorf("%s: unseal: %q, %v, want %v", step, got, err, want)
		}
		s, err := m.BlobSigner(t.Context(), blob, func() tpm.Boot { return boot }, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.Sign(nil, digest[:], crypto.SHA256)
		if !errors.Is(err, want) || (want == nil) != ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
			t.Errorf("%s: sign: %x, %v, want %v", step, sig, err, want)
		}
	}
	counter := func(want uint64) {
		t.Helper()
		if n, err := m.ReadCounter(t.Context(), policy.RollbackCounter(key), nil); err != nil || n != want {
			t.Errorf("the counter is at %d, %v, want %d", n, err, want)
		}
	}

	try("release 1", first, nil)
	try("release 2's approval in release 1's state", second, tpm.ErrBootState)
	m.boots(t, seven, eleven, eleven)
	try("after the update", second, nil)
	try("release 1's approval after the update", first, tpm.ErrBootState)
	m.boots(t, seven, eleven, eleven, twelve)
	try("an altered command line", second, tpm.ErrBootState)
	m.boots(t, eleven, eleven)
	try("another Secure Boot state", second, tpm.ErrBootState)

	m.boots(t, seven, eleven)
	try("fallback before the counter has moved", first, nil)

	m.boots(t, seven, eleven, eleven)
	for range 2 {
		if err := m.Raise(t.Context(), key, *read(second).Raise); err != nil {
			t.Fatal(err)
		}
		counter(releasetest.Base + 2)
	}
	try("release 2, confirmed", second, nil)
	if err := m.Raise(t.Context(), key, *read(first).Raise); !errors.Is(err, tpm.ErrCounterAhead) {
		t.Errorf("release 1's permission afterwards: %v, want ErrCounterAhead", err)
	}

	m.boots(t, seven, eleven)
	try("release 1 after the counter has moved", first, tpm.ErrRollback)
	if err := m.Raise(t.Context(), key, policy.Raise{To: releasetest.Base + 9, Signature: read(second).Raise.Signature}); !errors.Is(err, tpm.ErrNotPermitted) {
		t.Errorf("a permission that was stretched: %v, want ErrNotPermitted", err)
	}
	counter(releasetest.Base + 2)
	// The content of release 1, released anew, is the way back.
	try("release 1's content with index 3", ship("1.0-3", 3, seven, eleven), nil)
}
