package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/device/tpm"
	"ward/internal/device/tpm/tpmtest"
	"ward/internal/format/pcr"
	"ward/internal/trust/credential"
	"ward/internal/trust/policy"
)

// everything does what Ward ever does with a TPM, and ignores errors.
func everything(ctx context.Context, m *device, boot tpm.Boot) {
	bootPolicy := policy.BootPolicy(m.key)
	_, _ = m.ProvisionKeys(ctx)
	_ = m.DefineRollback(ctx, m.key, base)
	if key, err := m.CreateKey(ctx, &bootPolicy); err == nil {
		_, _ = m.CertifyKey(ctx, key)
		if s, err := m.BlobSigner(ctx, key, func() tpm.Boot { return boot }, time.Second); err == nil {
			digest := sha256.Sum256(nil)
			_, _ = s.Sign(nil, digest[:], crypto.SHA256)
		}
	}
	if sealed, err := m.Seal(ctx, []byte("secret"), &bootPolicy); err == nil {
		_, _ = m.Unseal(ctx, sealed, &boot)
	}
	for _, p := range profiles()[:3] {
		if public, err := m.EndorsementPublic(ctx, p); err == nil {
			blob, _ := credential.Make(rand.Reader, public, m.keys.AK.Name, []byte("credential"))
			_, _ = m.Activate(ctx, tpm.Endorsement{Profile: p, Public: public}, tpm.HandleAK, blob)
		}
	}
	auth := tpm.NewAuth()
	_ = m.DefineNV(ctx, tpm.JournalCounter(true), auth)
	_, _ = m.Increment(ctx, tpm.JournalCounter(true), auth)
	_ = m.UndefineNV(ctx, tpm.JournalCounter(true))
	if r, err := (policy.Raise{To: base}).Sign(rand.Reader, m.signer); err == nil {
		_ = m.Raise(ctx, m.key, r)
	}
	_, _, _ = m.Quote(ctx, [32]byte{1}, pcr.SHA256, []int{0, 7})
	_, _ = m.ReadPCRs(ctx, pcr.SHA256, []int{0, 7})
	_, _ = m.Status(ctx)
}

// Never are more than three objects and three sessions loaded, and none stays,
// whatever fails on the way; with authorisations of the hierarchies too.
func TestThreeSlots(t *testing.T) {
	for _, owned := range []bool{false, true} {
		d, inject := faulty(t)
		m := manufacture2(t, d, "")
		boot := m.approve(t, 1)
		if owned {
			if err := d.TakeOwnership(t.Context(), tpm.NewAuth(), tpm.NewAuth()); err != nil {
				t.Fatal(err)
			}
		}
		before := inject.Sent()
		everything(t.Context(), m, boot)
		commands := inject.Sent() - before
		if n := inject.Loaded(); n != 0 {
			t.Errorf("%d objects and sessions stay loaded", n)
		}
		for at := 0; at < commands; at += 2 {
			inject.After(at, tpmtest.Code(uint32(tpm2.TPMRCPolicyFail)))
			everything(t.Context(), m, boot)
			inject.Clear()
			if n := inject.Loaded(); n != 0 {
				t.Fatalf("command %d of %d failed: %d objects and sessions stay loaded", at, commands, n)
			}
		}
		objects, sessions := inject.Most()
		t.Logf("owned %t: %d commands, most objects %d, most sessions %d", owned, commands, objects, sessions)
		if objects > 3 || sessions > 3 || objects == 0 || sessions == 0 {
			t.Errorf("%d objects and %d sessions at once", objects, sessions)
		}
	}
}

// A reset in the middle of an operation is named, and the next one works.
//
// Verifies: SR-017
func TestResetInMidSession(t *testing.T) {
	d, inject := faulty(t)
	m := manufacture2(t, d, "")
	bootPolicy := policy.BootPolicy(m.key)
	boot := m.approve(t, 1)
	sealed, err := m.Seal(t.Context(), []byte("secret"), &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	recorded := inject.Record()
	if _, err := m.Unseal(t.Context(), sealed, &boot); err != nil {
		t.Fatal(err)
	}
	resets := 0
	for n, e := range recorded() {
		inject.After(n, inject.Reset())
		got, err := m.Unseal(t.Context(), sealed, &boot)
		switch {
		case err == nil && string(got) == "secret": // nothing was loaded yet, or any more
		case errors.Is(err, tpm.ErrReset):
			resets++
		default:
			t.Errorf("reset before command %d (%x): %q, %v, want ErrReset", n, e.Code(), got, err)
		}
		inject.Clear()
		if got, err := m.Unseal(t.Context(), sealed, &boot); err != nil || string(got) != "secret" {
			t.Errorf("after the reset: %q, %v", got, err)
		}
	}
	if resets < 3 {
		t.Errorf("%d resets were seen", resets)
	}
}

// Another TPM behind the same path is found out by everything that was bound to
// the first one.
//
// Verifies: SR-012
func TestAnotherTPMBehindThePath(t *testing.T) {
	d, inject := faulty(t)
	m := manufacture2(t, d, "")
	sealed, err := m.Seal(t.Context(), []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	signer := d.NewSigner(t.Context(), m.signing, 2*time.Second)
	digest := sha256.Sum256(nil)

	socket := startTPM(t, false)
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	inject.Exchange(conn)
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, tpm.ErrNoKey) {
		t.Errorf("an empty TPM signs: %v, want ErrNoKey", err)
	}
	if _, err := m.Unseal(t.Context(), sealed, nil); !errors.Is(err, tpm.ErrNoKey) {
		t.Errorf("an empty TPM unseals: %v, want ErrNoKey", err)
	}
	other := open(t, socket)
	if _, _, err := other.ProvisionSigning(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("another device's TPM signs: %v, want ErrOtherTPM", err)
	}
	if _, err := m.Unseal(t.Context(), sealed, nil); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("another device's TPM unseals: %v, want ErrOtherTPM", err)
	}
	d.Pin(m.keys.SRK)
	for name, do := range map[string]func() error{
		"registers": func() error { _, err := d.ReadPCRs(t.Context(), pcr.SHA256, []int{0}); return err },
		"quote":     func() error { _, _, err := d.Quote(t.Context(), [32]byte{}, pcr.SHA256, []int{0}); return err },
		"seal":      func() error { _, err := d.Seal(t.Context(), []byte("secret"), nil); return err },
	} {
		if err := do(); !errors.Is(err, tpm.ErrOtherTPM) {
			t.Errorf("%s of another TPM than the pinned one: %v, want ErrOtherTPM", name, err)
		}
	}
}

// Verifies: SR-012
func TestOwnership(t *testing.T) {
	socket := startTPM(t, false)
	d := open(t, socket)
	keys, err := d.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(t.Context()); err != nil || s.OwnerSet || s.LockoutSet || s.EndorsementSet {
		t.Errorf("new TPM: %+v, %v", s, err)
	}
	owner, lockout := tpm.NewAuth(), tpm.NewAuth()
	if err := d.TakeOwnership(t.Context(), owner, lockout); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(t.Context()); err != nil || !s.OwnerSet || !s.LockoutSet || s.EndorsementSet {
		t.Errorf("owned TPM: %+v, %v", s, err)
	}
	if err := d.TakeOwnership(t.Context(), owner, lockout); !errors.Is(err, tpm.ErrOwned) {
		t.Errorf("taken twice: %v, want ErrOwned", err)
	}
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	evict(t, conn, keys.AK, owner)
	stranger := open(t, socket)
	for name, do := range map[string]func() error{
		"provision": func() error { _, err := stranger.ProvisionKeys(t.Context()); return err },
		"define":    func() error { return stranger.DefineNV(t.Context(), tpm.JournalCounter(true), tpm.NewAuth()) },
	} {
		if err := do(); !errors.Is(err, tpm.ErrOwned) {
			t.Errorf("%s with an owner that is not known: %v, want ErrOwned", name, err)
		}
	}
	for _, wrong := range [][]byte{tpm.NewAuth(), []byte("guess")} {
		if err := stranger.Authorize(tpm.Authorizations{Owner: wrong}); err != nil {
			t.Fatal(err)
		}
		if _, err := stranger.ProvisionKeys(t.Context()); !errors.Is(err, tpm.ErrOwned) {
			t.Errorf("a wrong owner authorisation: %v, want ErrOwned", err)
		}
	}
	if err := stranger.Authorize(tpm.Authorizations{Owner: owner}); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.ProvisionKeys(t.Context()); err != nil {
		t.Errorf("with the owner's authorisation: %v", err)
	}
	m := manufacture2(t, stranger, socket)
	if _, err := stranger.Seal(t.Context(), []byte("secret"), nil); err != nil {
		t.Errorf("daily work needs no owner: %v", err)
	}
	if err := d.UndefineNV(t.Context(), policy.RollbackCounter(m.key)); err != nil {
		t.Errorf("the owner removes a counter: %v", err)
	}
}

// evict removes a persistent key with the owner's authorisation.
func evict(t *testing.T, conn transport.TPM, key tpm.Key, owner []byte) {
	t.Helper()
	if _, err := (tpm2.EvictControl{
		Auth:         tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(owner)},
		ObjectHandle: tpm2.NamedHandle{Handle: tpm2.TPMHandle(key.Handle), Name: tpm2.TPM2BName{Buffer: key.Name}}, PersistentHandle: tpm2.TPMIDHPersistent(key.Handle),
	}).Execute(conn); err != nil {
		t.Fatal(err)
	}
}

// With an authorisation of the endorsement hierarchy, activation needs it.
func TestEndorsementAuthorization(t *testing.T) {
	socket := startTPM(t, false)
	d := manufacture2(t, open(t, socket), socket)
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	auth, secret := tpm.NewAuth(), []byte("credential")
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: auth}}).Execute(conn); err != nil {
		t.Fatal(err)
	}
	for _, p := range profiles()[:3] {
		if _, err := d.EndorsementPublic(t.Context(), p); !errors.Is(err, tpm.ErrAuthorization) {
			t.Errorf("%s without the authorisation: %v", p.Name, err)
		}
		if err := d.Authorize(tpm.Authorizations{Endorsement: auth}); err != nil {
			t.Fatal(err)
		}
		ek := endorsementOf(t, d.TPM, p)
		blob, err := credential.Make(rand.Reader, ek.Public, d.keys.AK.Name, secret)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Activate(t.Context(), ek, tpm.HandleAK, blob); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s with the authorisation: %q, %v", p.Name, got, err)
		}
		if err := d.Authorize(tpm.Authorizations{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A lockout by somebody else's wrong tries says how it ends; Ward's keys go on
// working in it.
//
// Verifies: SR-017
func TestLockout(t *testing.T) {
	socket := startTPM(t, false)
	d := manufacture2(t, open(t, socket), socket)
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else's index, without noDA.
	public := tpm2.TPMSNVPublic{NVIndex: 0x01900000, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8, Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true}}
	if _, err := (tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, Auth: tpm2.TPM2BAuth{Buffer: []byte("secret")}, PublicInfo: tpm2.New2B(public),
	}).Execute(conn); err != nil {
		t.Fatal(err)
	}
	index := policy.Index{Handle: 0x01900000, Attributes: policy.AuthRead | policy.AuthWrite, Size: 8}
	before, err := d.Status(t.Context())
	if err != nil || before.Lockout || before.MaxTries == 0 || before.Interval == 0 {
		t.Fatalf("before: %+v, %v", before, err)
	}
	for range before.MaxTries + 1 {
		_, err = d.ReadNV(t.Context(), index, []byte("wrong"))
		if errors.Is(err, tpm.ErrLockout) {
			break
		}
		if !errors.Is(err, tpm.ErrAuthorization) {
			t.Fatalf("a wrong try: %v", err)
		}
	}
	if !errors.Is(err, tpm.ErrLockout) || !strings.Contains(err.Error(), before.Interval.String()) {
		t.Errorf("after %d tries: %v, want ErrLockout with %s", before.MaxTries, err, before.Interval)
	}
	if s, err := d.Status(t.Context()); err != nil || !s.Lockout || s.Tries != s.MaxTries {
		t.Errorf("in lockout: %+v, %v", s, err)
	}
	digest := sha256.Sum256(nil)
	if _, err := d.NewSigner(t.Context(), d.signing, 2*time.Second).Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Errorf("the reporting key in lockout: %v", err)
	}
	bootPolicy := policy.BootPolicy(d.key)
	sealed, err := d.Seal(t.Context(), []byte("secret"), &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	boot := d.approve(t, 1)
	if _, err := d.Unseal(t.Context(), sealed, &boot); err != nil {
		t.Errorf("unseal in lockout: %v", err)
	}
}

// Other users of the TPM hold its slots: Ward says so, and goes on when they are
// free.
//
// Verifies: SR-017
func TestOthersHoldTheSlots(t *testing.T) {
	socket := startTPM(t, false)
	d := manufacture2(t, open(t, socket), socket)
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	var closers []func() error
	for range 3 { // swtpm loads three sessions at once
		_, done, err := tpm2.HMACSession(conn, tpm2.TPMAlgSHA256, 16)
		if err != nil {
			t.Fatal(err)
		}
		closers = append(closers, done)
	}
	synctest.Test(t, func(t *testing.T) {
		if _, err := d.Seal(t.Context(), []byte("secret"), nil); !errors.Is(err, tpm.ErrExhausted) {
			t.Errorf("all sessions taken: %v, want ErrExhausted", err)
		}
	})
	if _, err := d.ReadPCRs(t.Context(), pcr.SHA256, []int{0}); err != nil {
		t.Errorf("what needs no session: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, func() {
		for _, done := range closers {
			_ = done()
		}
	})
	if _, err := d.Seal(t.Context(), []byte("secret"), nil); err != nil {
		t.Errorf("sessions come free while it waits: %v", err)
	}
}

// One TPM serves one operation after the other: a slow one delays the next by
// its own commands and by no more, in the order of their coming.
//
// Verifies: SR-017
func TestSlowTPMServesInTurn(t *testing.T) {
	const pause = 40 * time.Millisecond // for the 600 ms of the slowest TPMs
	d, inject := faulty(t)
	m := manufacture2(t, d, "")
	signer := d.NewSigner(t.Context(), m.signing, 10*time.Second)
	digest := sha256.Sum256(nil)
	inject.Always(tpmtest.Slow(pause))
	defer inject.Always(nil)
	quoted := make(chan struct{})
	go func() {
		defer close(quoted)
		for range 3 {
			_, _, _ = d.Quote(t.Context(), [32]byte{}, pcr.SHA256, []int{0})
		}
	}()
	time.Sleep(pause / 2)
	begun := time.Now()
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	// Six commands of one quote and the signature; not those of all three.
	if took := time.Since(begun); took > 10*pause {
		t.Errorf("a signature waited %s, commands take %s", took, pause)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pause)
	defer cancel()
	if _, err := d.ReadPCRs(ctx, pcr.SHA256, []int{0}); !errors.Is(err, tpm.ErrTimeout) {
		t.Errorf("who cannot wait: %v, want ErrTimeout", err)
	}
	<-quoted
}
