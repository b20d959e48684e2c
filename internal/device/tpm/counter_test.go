package tpm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm"
	"ward/internal/device/tpm/tpmtest"
	"ward/internal/trust/policy"
)

const nvIncrement = uint32(tpm2.TPMCCNVIncrement)

// Verifies: SR-012
func TestRollbackCounter(t *testing.T) {
	d := manufactured(t)
	index := policy.RollbackCounter(d.key)
	value := func() uint64 {
		t.Helper()
		v, err := d.ReadCounter(t.Context(), index, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := value(); v != base {
		t.Errorf("after manufacture %d, want %d", v, base)
	}
	if err := d.DefineRollback(t.Context(), d.key, base); err != nil {
		t.Errorf("manufacture repeated: %v", err)
	}
	d.raise(t, 2)
	if v := value(); v != base+2 {
		t.Errorf("raised to %d, want %d", v, base+2)
	}
	d.raise(t, 2)
	if v := value(); v != base+2 {
		t.Errorf("raised again to %d", v)
	}
	low, err := policy.Raise{To: base + 1}.Sign(rand.Reader, d.signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Raise(t.Context(), d.key, low); !errors.Is(err, tpm.ErrCounterAhead) {
		t.Errorf("an old permission: %v, want ErrCounterAhead", err)
	}
	forged := low
	forged.To = base + 9
	if err := d.Raise(t.Context(), d.key, forged); !errors.Is(err, tpm.ErrNotPermitted) {
		t.Errorf("a forged permission: %v, want ErrNotPermitted", err)
	}
	if _, err := d.Increment(t.Context(), index, nil); !errors.Is(err, tpm.ErrAuthorization) {
		t.Errorf("stepped without a permission: %v, want ErrAuthorization", err)
	}
	far, err := policy.Raise{To: 1 << 40}.Sign(rand.Reader, d.signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Raise(t.Context(), d.key, far); err == nil {
		t.Error("raised by a million million steps")
	}
	if v := value(); v != base+2 {
		t.Errorf("after all refusals %d, want %d", v, base+2)
	}
	if err := d.DefineRollback(t.Context(), d.key, base); !errors.Is(err, tpm.ErrCounterAhead) {
		t.Errorf("manufactured with a counter above the base: %v, want ErrCounterAhead", err)
	}
	// A counter that was removed comes back above all that ever were.
	if err := d.UndefineNV(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadCounter(t.Context(), index, nil); !errors.Is(err, tpm.ErrNoIndex) {
		t.Errorf("removed: %v, want ErrNoIndex", err)
	}
	if err := d.DefineRollback(t.Context(), d.key, base); !errors.Is(err, tpm.ErrCounterAhead) {
		t.Errorf("defined anew: %v, want ErrCounterAhead", err)
	}
	if err := d.UndefineNV(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	if err := d.UndefineNV(t.Context(), index); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

// The TPM itself refuses a step beyond the permission, whatever the software
// would do.
//
// Verifies: SR-012
func TestTPMRefusesTheStepTooFar(t *testing.T) {
	d, inject := faulty(t)
	m := manufacture2(t, d, "")
	r, err := policy.Raise{To: base + 1}.Sign(rand.Reader, m.signer)
	if err != nil {
		t.Fatal(err)
	}
	// Every NV_Increment is sent twice: the second one, with the same session,
	// is refused, and so the counter stands at the permission.
	inject.Always(tpmtest.On(nvIncrement, tpmtest.Twice()))
	if err := d.Raise(t.Context(), m.key, r); err == nil {
		t.Error("a replay was accepted")
	}
	inject.Always(nil)
	if v, err := d.ReadCounter(t.Context(), policy.RollbackCounter(m.key), nil); err != nil || v != base+1 {
		t.Errorf("counter %d, %v, want %d", v, err, base+1)
	}
}

func TestJournalCounters(t *testing.T) {
	d, inject := faulty(t)
	if _, err := d.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, durable := range []bool{false, true} {
		index, auth := tpm.JournalCounter(durable), tpm.NewAuth()
		if _, err := d.ReadCounter(t.Context(), index, auth); !errors.Is(err, tpm.ErrNoIndex) {
			t.Errorf("before manufacture: %v, want ErrNoIndex", err)
		}
		for range 2 {
			if err := d.DefineNV(t.Context(), index, auth); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.ReadCounter(t.Context(), index, auth); !errors.Is(err, tpm.ErrNeverWritten) {
			t.Errorf("before the first step: %v, want ErrNeverWritten", err)
		}
		first, err := d.Increment(t.Context(), index, auth)
		if err != nil {
			t.Fatal(err)
		}
		second, err := d.Increment(t.Context(), index, auth)
		if err != nil || second != first+1 {
			t.Errorf("durable %t: %d, then %d, %v", durable, first, second, err)
		}
		wrong := bytes.Clone(auth)
		wrong[0] ^= 0x80
		if wrong[0] == 0 {
			wrong[0] = 1
		}
		if _, err := d.Increment(t.Context(), index, wrong); !errors.Is(err, tpm.ErrAuthorization) {
			t.Errorf("stepped with a wrong authorisation: %v", err)
		}
		if _, err := d.ReadCounter(t.Context(), index, nil); !errors.Is(err, tpm.ErrAuthorization) {
			t.Errorf("read without the authorisation: %v", err)
		}
		// Somebody on the bus sends the step twice: it counts once.
		inject.Inject(nil, nil, nil, tpmtest.On(nvIncrement, tpmtest.Twice()))
		_, err = d.Increment(t.Context(), index, auth)
		if err == nil {
			t.Error("a replay was accepted")
		}
		if v, err := d.ReadCounter(t.Context(), index, auth); err != nil || v > second+1 {
			t.Errorf("after a replay %d, %v, want at most %d", v, err, second+1)
		}
	}
	other := tpm.JournalCounter(true)
	other.Attributes |= policy.Orderly
	if err := d.DefineNV(t.Context(), other, nil); !errors.Is(err, tpm.ErrOccupied) {
		t.Errorf("another index at the handle: %v, want ErrOccupied", err)
	}
}

func TestNVWearsOut(t *testing.T) {
	d, inject := faulty(t)
	if _, err := d.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	index, auth := tpm.JournalCounter(true), tpm.NewAuth()
	if err := d.DefineNV(t.Context(), index, auth); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Increment(t.Context(), index, auth); err != nil {
		t.Fatal(err)
	}
	for rc, want := range map[tpm2.TPMRC]error{tpm2.TPMRCNVRate: tpm.ErrNVRate, tpm2.TPMRCNVUnavailable: tpm.ErrNVUnavailable, tpm2.TPMRCNVSpace: tpm.ErrNVSpace} {
		inject.Always(tpmtest.On(nvIncrement, tpmtest.Code(uint32(rc))))
		synctest.Test(t, func(t *testing.T) {
			if _, err := d.Increment(t.Context(), index, auth); !errors.Is(err, want) {
				t.Errorf("%v: %v, want %v", rc, err, want)
			}
		})
		inject.Always(nil)
		if _, err := d.ReadCounter(t.Context(), index, auth); err != nil {
			t.Errorf("read after %v: %v", rc, err)
		}
	}
	// Limited for a moment: the same command is sent again, and counts once.
	before, err := d.ReadCounter(t.Context(), index, auth)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	inject.Always(tpmtest.On(nvIncrement, func(next tpmtest.Transport, command []byte) ([]byte, error) {
		if n++; n < 4 {
			return tpmtest.Response(uint32(tpm2.TPMRCNVRate)), nil
		}
		return next.Send(command)
	}))
	if after, err := d.Increment(t.Context(), index, auth); err != nil || after != before+1 {
		t.Errorf("after a pause: %d, %v, want %d", after, err, before+1)
	}
	inject.Always(nil)
}

func TestOrdinaryNV(t *testing.T) {
	d, inject := faulty(t)
	if _, err := d.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	index := policy.Index{Handle: 0x01801010, Attributes: policy.AuthWrite | policy.AuthRead | policy.NoDA, Size: 700}
	auth, data := tpm.NewAuth(), bytes.Repeat([]byte("confidential"), 58)
	if err := d.DefineNV(t.Context(), index, auth); err != nil {
		t.Fatal(err)
	}
	recorded := inject.Record()
	if err := d.WriteNV(t.Context(), index, auth, data); err != nil {
		t.Fatal(err)
	}
	got, err := d.ReadNV(t.Context(), index, auth)
	if err != nil || !bytes.Equal(got[:len(data)], data) {
		t.Errorf("read %q, %v", got, err)
	}
	noLeak(t, recorded(), data[:24], auth)
}

// go-tpm cuts authorisation values at a zero byte; such values are refused before
// they get there.
func TestAuthorizationsWithZeros(t *testing.T) {
	d := manufactured(t)
	zero := append(tpm.NewAuth()[:20], 0, 1)
	if err := d.DefineNV(t.Context(), tpm.JournalCounter(true), zero); err == nil {
		t.Error("a value with a zero in it was taken")
	}
	if err := d.Authorize(tpm.Authorizations{Owner: zero}); err == nil {
		t.Error("a value with a zero in it was taken")
	}
	if err := d.TakeOwnership(t.Context(), zero, tpm.NewAuth()); err == nil {
		t.Error("a value with a zero in it was taken")
	}
	if err := d.TakeOwnership(t.Context(), tpm.NewAuth(), nil); err == nil {
		t.Error("an empty lockout authorisation was taken")
	}
	seen := make(map[string]bool)
	for range 200 {
		a := tpm.NewAuth()
		if len(a) != 32 || bytes.IndexByte(a, 0) >= 0 || seen[string(a)] {
			t.Fatalf("authorisation %x", a)
		}
		seen[string(a)] = true
	}
}
