package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm"
	"ward/internal/device/tpm/tpmtest"
	"ward/internal/format/pcr"
	"ward/internal/trust/credential"
	"ward/internal/trust/policy"
)

// noLeak fails when one of the secrets crossed the bus in the open.
func noLeak(t *testing.T, record []tpmtest.Exchange, secrets ...[]byte) {
	t.Helper()
	if len(record) == 0 {
		t.Error("nothing was recorded")
	}
	for _, e := range record {
		// A session without a salt has a key that everybody can compute.
		if null := []byte{0x40, 0, 0, 7}; e.Code() == uint32(tpm2.TPMCCStartAuthSession) && bytes.Equal(e.Command[10:14], null) {
			t.Error("a session has no salt")
		}
		for _, s := range secrets {
			if bytes.Contains(e.Command, s) || bytes.Contains(e.Response, s) {
				t.Errorf("command %x carries the secret %.8q in the open", e.Code(), s)
			}
		}
	}
}

// Verifies: SR-012
func TestListenerOnTheBusLearnsNothing(t *testing.T) {
	d, inject := faulty(t)
	m := manufacture2(t, d, "")
	bootPolicy := policy.BootPolicy(m.key)
	boot := m.approve(t, 1)
	secret, activated := []byte("thirty-two bytes of disk secret!"), []byte("thirty-two bytes of credential !")
	owner, lockout, auth := tpm.NewAuth(), tpm.NewAuth(), tpm.NewAuth()
	recorded := inject.Record()

	for _, p := range []*policy.Digest{nil, &bootPolicy} {
		sealed, err := d.Seal(t.Context(), secret, p)
		if err != nil {
			t.Fatal(err)
		}
		var b *tpm.Boot
		if p != nil {
			b = &boot
		}
		if got, err := d.Unseal(t.Context(), sealed, b); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%x, %v", got, err)
		}
	}
	for _, p := range profiles() {
		ek := endorsementOf(t, d, p)
		blob, err := credential.Make(rand.Reader, ek.Public, m.keys.AK.Name, activated)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Activate(t.Context(), ek, tpm.HandleAK, blob); err != nil || !bytes.Equal(got, activated) {
			t.Fatalf("%x, %v", got, err)
		}
	}
	if err := d.DefineNV(t.Context(), tpm.JournalCounter(true), auth); err != nil {
		t.Fatal(err)
	}
	if err := d.TakeOwnership(t.Context(), owner, lockout); err != nil {
		t.Fatal(err)
	}
	if err := d.DefineNV(t.Context(), tpm.JournalCounter(false), auth); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Increment(t.Context(), tpm.JournalCounter(true), auth); err != nil {
		t.Fatal(err)
	}
	noLeak(t, recorded(), secret, activated, owner, lockout, auth)
}

// operations are what somebody on the bus could want to change; each returns
// what it came to, which must be the right thing or an error.
func operations(t *testing.T, m *device) []struct {
	name string
	do   func(context.Context) (string, error)
} {
	t.Helper()
	bootPolicy := policy.BootPolicy(m.key)
	boot := m.approve(t, 1)
	sealed, err := m.Seal(t.Context(), []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := m.Seal(t.Context(), []byte("bound secret"), &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	ek := endorsementOf(t, m.TPM, profiles()[0])
	blob, err := credential.Make(rand.Reader, ek.Public, m.keys.AK.Name, []byte("credential"))
	if err != nil {
		t.Fatal(err)
	}
	signer := m.NewSigner(t.Context(), m.signing, 2*time.Second)
	digest := sha256.Sum256(nil)
	return []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"registers", func(ctx context.Context) (string, error) {
			v, err := m.ReadPCRs(ctx, pcr.SHA256, []int{0, 7, 16})
			return fmt.Sprint(v), err
		}},
		{"quote", func(ctx context.Context) (string, error) {
			_, v, err := m.Quote(ctx, [32]byte{1}, pcr.SHA256, []int{0, 7})
			return fmt.Sprint(v), err
		}},
		{"sign", func(context.Context) (string, error) {
			_, err := signer.Sign(nil, digest[:], crypto.SHA256)
			return "signed", err
		}},
		{"unseal", func(ctx context.Context) (string, error) {
			b, err := m.Unseal(ctx, sealed, nil)
			return string(b), err
		}},
		{"unseal with the boot state", func(ctx context.Context) (string, error) {
			b, err := m.Unseal(ctx, bound, &boot)
			return string(b), err
		}},
		{"activate", func(ctx context.Context) (string, error) {
			b, err := m.Activate(ctx, ek, tpm.HandleAK, blob)
			return string(b), err
		}},
		{"counter", func(ctx context.Context) (string, error) {
			n, err := m.ReadCounter(ctx, policy.RollbackCounter(m.key), nil)
			return fmt.Sprint(n), err
		}},
	}
}

// A bit is changed at some 40 places of every command and of every answer: what
// comes out is the right thing, or an error. The TPM is pinned by its storage root key.
//
// Verifies: SR-012
func TestTampererOnTheBusChangesNothing(t *testing.T) {
	d, inject := faulty(t)
	m := manufacture2(t, d, "")
	d.Pin(m.keys.SRK)
	for _, op := range operations(t, m) {
		recorded := inject.Record()
		want, err := op.do(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		record := recorded()
		refused, named, tampered := 0, 0, 0
		for n, e := range record {
			// The header, length and code, belongs to who carries the bytes.
			for _, way := range []struct {
				size  int
				fault func(int) tpmtest.Fault
			}{{len(e.Command), tpmtest.Change}, {len(e.Response), tpmtest.ChangeAnswer}} {
				for at := 10; at < way.size; at += 1 + (way.size-10)/40 {
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					inject.After(n, way.fault(at))
					got, err := op.do(ctx)
					cancel()
					inject.Clear()
					tampered++
					if errors.Is(err, tpm.ErrTampered) {
						named++
					}
					if err != nil {
						refused++
					} else if got != want {
						t.Errorf("%s: command %d (%x), byte %d changed: %q, want %q", op.name, n, e.Code(), at, got, want)
					}
					inject.FlushAll()
				}
			}
		}
		t.Logf("%s: %d commands, %d changes, %d refused, %d named", op.name, len(record), tampered, refused, named)
		if refused == 0 || named == 0 && op.name != "sign" { // a signature is checked with the key
			t.Errorf("%s: %d changes were refused, %d as ErrTampered", op.name, refused, named)
		}
		if got, err := op.do(t.Context()); err != nil || got != want {
			t.Errorf("%s afterwards: %q, %v", op.name, got, err)
		}
	}
}

// costs are the commands of an operation, without and with a pinned storage root
// key.
var costs = map[string][2]int{
	"registers": {1, 3}, "quote": {6, 5}, "sign": {1, 1}, "unseal": {6, 5},
	"unseal with the boot state": {13, 12}, "activate": {11, 11}, "counter": {5, 4},
}

// What the sessions cost, in commands. docs/tpm.md states the same numbers.
func TestCostInCommands(t *testing.T) {
	d, inject := faulty(t)
	m := manufacture2(t, d, "")
	for _, pinned := range []bool{false, true} {
		if pinned {
			d.Pin(m.keys.SRK)
		}
		column := 0
		if pinned {
			column = 1
		}
		for _, op := range operations(t, m) {
			recorded := inject.Record()
			if _, err := op.do(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := len(recorded()), costs[op.name][column]; got != want {
				t.Errorf("%s, pinned %t: %d commands, want %d", op.name, pinned, got, want)
			}
		}
	}
}
