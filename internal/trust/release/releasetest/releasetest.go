// Package releasetest makes releases for tests: manifests of a pump whose PCR 7,
// 11 and 12 are exact, what the policy key signs for them, and their envelopes.
package releasetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"ward/internal/format/dsse"
	"ward/internal/format/pcr"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
)

// Base is what manufacture steps the rollback counter to.
const Base = 20

// Key is a P-256 key, the same in every run; 1 is the policy key, 2 the release
// key, others are strangers'.
func Key(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Numbers of the keys.
const (
	Policy  = 1
	Release = 2
)

// PolicyKey is the policy key's public part.
func PolicyKey(t testing.TB) policy.Key {
	t.Helper()
	k, err := policy.NewKey(&Key(t, Policy).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// PEM is a public key as trust anchors hold it.
func PEM(t testing.TB, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Values are registers of a release: each holds its digit.
func Values(seven, eleven, twelve byte) pcr.Values {
	d := func(b byte) pcr.Digest { return bytes.Repeat(pcr.Digest{b}, 32) }
	return pcr.Values{7: d(seven), 11: d(eleven), 12: d(twelve)}
}

// Manifest is a release that accepts one firmware, under which the registers are
// these. Nothing is approved yet.
func Manifest(version string, index uint64, registers pcr.Values) release.Manifest {
	m := release.Manifest{
		Schema: release.SchemaVersion, Product: "pump", Board: "qemu-x86_64", Version: version, RollbackIndex: index,
		BuildTime: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC),
		Files:     release.Files{Digest: release.Digest{1}, Path: "/usr/lib/ward/baseline"},
		Boot:      release.Boot{Bank: pcr.SHA256.String(), Firmware: []string{"ovmf"}, PCRs: make(map[int]release.Reference)},
	}
	for n, d := range registers {
		m.Boot.PCRs[n] = release.Reference{Mode: release.Exact, Values: []release.Value{{Digest: d, Firmware: "ovmf"}}}
	}
	return m
}

// Approved is a manifest with what the policy key signs for it.
func Approved(t testing.TB, m release.Manifest) release.Manifest {
	t.Helper()
	m, err := m.Approve(release.Approval{Base: Base}, Key(t, Policy))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Envelope is the manifest, signed by the release key.
func Envelope(t testing.TB, m release.Manifest) []byte {
	t.Helper()
	b, err := release.Sign(m, Key(t, Release))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Verified is the manifest as a device has it after it has verified it.
func Verified(t testing.TB, m release.Manifest) *release.Verified {
	t.Helper()
	ring, err := dsse.NewKeyring(Key(t, Release).Public())
	if err != nil {
		t.Fatal(err)
	}
	v, err := release.Open(Envelope(t, m), ring, 1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
