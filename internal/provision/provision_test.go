package provision_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/device/tpm/tpmtest"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

const base = 20

var now = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// line is a production line: a policy key, a vault.
type line struct {
	signer *ecdsa.PrivateKey
	key    policy.Key
	vault  *provision.Vault
}

func newLine(t testing.TB) *line {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	key, err := policy.NewKey(&signer.PublicKey)
	must(t, err)
	return &line{signer: signer, key: key}
}

func (l *line) options() provision.Options {
	return provision.Options{
		Tenant: "acme", Serial: "SN-000123", PolicyKey: &l.key, Base: base, Now: now, Vault: l.vault,
		Keep: func(v provision.Vault) error { l.vault = &v; return nil },
	}
}

func open(t testing.TB, socket string) *tpm.TPM {
	t.Helper()
	chip, err := tpm.Open(socket)
	must(t, err)
	t.Cleanup(func() { chip.Close() })
	return chip
}

// check looks at a manufactured device from outside.
func check(t *testing.T, socket string, state string, l *line) {
	t.Helper()
	chip, store := open(t, socket), idstore.Open(state)
	d, err := store.Device()
	must(t, err)
	srk, err := chip.ReadPublic(t.Context(), tpm.HandleSRK)
	must(t, err)
	if d.Tenant != "acme" || d.Serial != "SN-000123" || !bytes.Equal(d.SRK, srk.Area) || !d.Made.Equal(now) {
		t.Errorf("device record %+v", d)
	}
	auth, err := store.Auth("journal")
	must(t, err)
	for _, durable := range []bool{false, true} {
		if n, err := chip.ReadCounter(t.Context(), tpm.JournalCounter(durable), auth); err != nil || n == 0 {
			t.Errorf("journal counter: %d, %v", n, err)
		}
	}
	if n, err := chip.ReadCounter(t.Context(), policy.RollbackCounter(l.key), nil); err != nil || n != base {
		t.Errorf("rollback counter %d, %v; want %d", n, err, base)
	}
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		all, err := store.Generations(use)
		must(t, err)
		if len(all) != 1 || all[0].Number != 1 {
			t.Fatalf("%s keys %+v, want one", use, all)
		}
		if _, err := chip.CertifyKey(t.Context(), tpm.Blob{Public: all[0].Key.Public, Private: all[0].Key.Private}); err != nil {
			t.Errorf("%s key: %v", use, err)
		}
	}
	s, err := chip.Status(t.Context())
	must(t, err)
	if !s.OwnerSet || !s.LockoutSet || s.EndorsementSet {
		t.Errorf("hierarchies %+v", s)
	}
	// Neither of the owner's values is on the device.
	must(t, filepath.WalkDir(state, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		must(t, err)
		for _, secret := range []string{l.vault.Owner, l.vault.Lockout} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s holds a value of the vault", path)
			}
		}
		return nil
	}))
}

// The whole factory step, its times, and that it can be repeated.
//
// Verifies: SR-048
func TestManufacture(t *testing.T) {
	machine, state, l := swtpmtest.Start(t, true), t.TempDir(), newLine(t)
	o := l.options()
	var told []string
	o.Progress = func(s provision.Step) { told = append(told, s.Name); t.Logf("%-18s %s %s", s.Name, s.Took, s.Note) }
	first, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), o)
	must(t, err)
	check(t, machine.Socket, state, l)
	if len(told) != 9 || len(first.Steps) != 9 || told[8] != provision.StepOwner || len(first.EK) != 64 || first.Counter != base {
		t.Errorf("told %q, result %+v", told, first)
	}
	if first.Vault != *l.vault {
		t.Error("the result's vault is not the one that was kept")
	}

	kept := *l.vault
	again, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options())
	must(t, err)
	check(t, machine.Socket, state, l)
	if *l.vault != kept || again.Vault != kept || !bytes.Equal(again.Keys.AK.Name, first.Keys.AK.Name) || again.Uses[enrolment.Reporting].Number != 1 {
		t.Error("the second run made something else")
	}

	// It works after the power was off.
	machine.Off()
	must(t, machine.On())
	if _, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options()); err != nil {
		t.Errorf("after a power cycle: %v", err)
	}
}

// A run that is cut off after any step, or at any command to the TPM, is finished
// by the next.
//
// Verifies: SR-048
func TestInterruptedManufacture(t *testing.T) {
	for step := range 9 {
		t.Run(fmt.Sprintf("after step %d", step+1), func(t *testing.T) {
			machine, state, l := swtpmtest.Start(t, false), t.TempDir(), newLine(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o, done := l.options(), 0
			o.Progress = func(provision.Step) {
				if done++; done == step+1 {
					cancel()
				}
			}
			if _, err := provision.Run(ctx, open(t, machine.Socket), idstore.Open(state), o); (err == nil) != (step == 8) {
				t.Fatalf("cut off: %v", err)
			}
			machine.Off()
			must(t, machine.On())
			_, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options())
			must(t, err)
			check(t, machine.Socket, state, l)
		})
	}
}

// Verifies: SR-048
func TestManufactureCutAtEveryCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("some thirty runs with a software TPM")
	}
	total := 0
	for n := 0; n == 0 || n < total; n += 3 {
		machine, state, l := swtpmtest.Start(t, false), t.TempDir(), newLine(t)
		conn, err := linuxudstpm.Open(machine.Socket)
		must(t, err)
		inject := tpmtest.New(conn)
		chip := tpm.New(func() (tpm.Transport, error) { return inject.Open(), nil })
		sent := 0
		inject.Always(func(next tpmtest.Transport, command []byte) ([]byte, error) {
			if sent++; total > 0 && sent > n {
				return nil, errors.New("the power is gone")
			}
			return next.Send(command)
		})
		_, err = provision.Run(t.Context(), chip, idstore.Open(state), l.options())
		if total == 0 {
			must(t, err)
			total = sent
			t.Logf("%d commands", total)
		} else if err == nil {
			t.Errorf("cut off after command %d: no error", n)
		}
		must(t, chip.Close())
		machine.Off()
		must(t, machine.On())
		if _, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options()); err != nil {
			t.Errorf("cut off after command %d, then: %v", n, err)
			continue
		}
		check(t, machine.Socket, state, l)
		machine.Remove()
	}
}

// Verifies: SR-048
func TestManufactureRefuses(t *testing.T) {
	machine, state, l := swtpmtest.Start(t, false), t.TempDir(), newLine(t)
	_, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options())
	must(t, err)
	other := swtpmtest.Start(t, false)
	for name, c := range map[string]struct {
		socket, state string
		change        func(*provision.Options)
		want          error
		words         string
	}{
		"an owned TPM without its values": {machine.Socket, t.TempDir(), func(o *provision.Options) { o.Vault = nil }, tpm.ErrOwned, "vault"},
		"an owned TPM with other values": {machine.Socket, state, func(o *provision.Options) {
			v := *o.Vault
			v.Owner = strings.Repeat("11", 32)
			o.Vault = &v
		}, tpm.ErrOwned, "vault"},
		"another device's vault": {machine.Socket, state, func(o *provision.Options) { v := *o.Vault; v.Serial = "SN-2"; o.Vault = &v }, provision.ErrVault, "SN-2"},
		"another serial number":  {machine.Socket, state, func(o *provision.Options) { o.Serial = "SN-2"; v := *o.Vault; v.Serial = "SN-2"; o.Vault = &v }, provision.ErrOtherDevice, "decommission"},
		"another TPM":            {other.Socket, state, func(*provision.Options) {}, provision.ErrOtherDevice, "decommission"},
		"another policy key":     {machine.Socket, state, func(o *provision.Options) { o.PolicyKey = &newLine(t).key }, tpm.ErrOccupied, ""},
		"a lower base":           {machine.Socket, state, func(o *provision.Options) { o.Base = base - 1 }, tpm.ErrCounterAhead, "base"},
		"a serial with a dot":    {other.Socket, t.TempDir(), func(o *provision.Options) { o.Vault, o.Serial = nil, "SN.1" }, provision.ErrName, "serial"},
		"a lost state":           {machine.Socket, t.TempDir(), func(*provision.Options) {}, tpm.ErrAuthorization, "clear"},
	} {
		t.Run(name, func(t *testing.T) {
			o := l.options()
			o.Keep = func(provision.Vault) error { t.Error("values were made"); return nil }
			c.change(&o)
			_, err := provision.Run(t.Context(), open(t, c.socket), idstore.Open(c.state), o)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %v and %q", err, c.want, c.words)
			}
		})
	}
	check(t, machine.Socket, state, l)
	if k, err := open(t, other.Socket).ReadPublic(t.Context(), tpm.HandleSRK); !errors.Is(err, tpm.ErrNoKey) {
		t.Errorf("the refused TPM holds %v, %v", k, err)
	}
}

// A TPM that its owner cleared has lost the device's keys: said, and made anew
// after decommissioning.
//
// Verifies: SR-048
func TestClearedTPM(t *testing.T) {
	machine, state, l := swtpmtest.Start(t, false), t.TempDir(), newLine(t)
	_, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options())
	must(t, err)
	conn, err := linuxudstpm.Open(machine.Socket)
	must(t, err)
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(conn)
	must(t, err)
	l.vault = nil
	_, err = provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options())
	if !errors.Is(err, provision.ErrOtherDevice) || !strings.Contains(err.Error(), "cleared") {
		t.Errorf("with the old state: %v", err)
	}
	must(t, idstore.Open(state).Wipe())
	o := l.options()
	o.Base = base
	_, err = provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), o)
	// The counter starts above the highest that was ever there.
	if err != nil && !errors.Is(err, tpm.ErrCounterAhead) {
		t.Fatal(err)
	}
	o.Base = base + 10
	o.Vault = l.vault
	must(t, func() error {
		_, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), o)
		return err
	}())
}

// Without a policy key there is nothing that is bound to it.
//
// Verifies: SR-048
func TestWithoutPolicyKey(t *testing.T) {
	machine, state, l := swtpmtest.Start(t, false), t.TempDir(), newLine(t)
	o := l.options()
	o.PolicyKey = nil
	r, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), o)
	must(t, err)
	if i := slices.IndexFunc(r.Steps, func(s provision.Step) bool { return s.Name == provision.StepService }); r.Steps[i].Note == "" {
		t.Error("nothing is said of the service key")
	}
	if all, err := idstore.Open(state).Generations(enrolment.Service); len(all) != 0 || err != nil {
		t.Errorf("service keys %v, %v", all, err)
	}
}

// Verifies: SR-048
func TestVaultFile(t *testing.T) {
	machine, state, l := swtpmtest.Start(t, false), t.TempDir(), newLine(t)
	_, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options())
	must(t, err)
	b, err := l.vault.Encode()
	must(t, err)
	if v, err := provision.ParseVault(b); err != nil || v != *l.vault {
		t.Errorf("%+v becomes %+v, %v", l.vault, v, err)
	}
	for _, bad := range []string{"", "{}", string(b[:len(b)/2]), string(b) + "{}", strings.Replace(string(b), `"version": 1`, `"version": 2`, 1), strings.Replace(string(b), l.vault.Owner, "00", 1), strings.Repeat("x", 1<<20)} {
		if _, err := provision.ParseVault([]byte(bad)); !errors.Is(err, provision.ErrVault) || strings.Contains(err.Error(), l.vault.Lockout) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	// A vault that cannot be written leaves a TPM without an owner.
	fresh := swtpmtest.Start(t, false)
	o := l.options()
	o.Vault, o.Keep = nil, func(provision.Vault) error { return errors.New("disk full") }
	if _, err := provision.Run(t.Context(), open(t, fresh.Socket), idstore.Open(t.TempDir()), o); err == nil {
		t.Error("no error")
	}
	if s, err := open(t, fresh.Socket).Status(t.Context()); err != nil || s.OwnerSet || s.LockoutSet {
		t.Errorf("the TPM has an owner whose value is lost: %+v, %v", s, err)
	}
}

// FuzzParseVault: no panic, and what is taken is written the same.
func FuzzParseVault(f *testing.F) {
	f.Add([]byte(`{"version":1,"tenant":"a","serial":"b","owner":"` + strings.Repeat("11", 32) + `","lockout":"` + strings.Repeat("22", 32) + `","made":"2026-11-24T10:00:00Z"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := provision.ParseVault(b)
		if err != nil {
			return
		}
		text, err := v.Encode()
		if err != nil {
			t.Fatalf("taken and cannot be written: %v", err)
		}
		if again, err := provision.ParseVault(text); err != nil || again.Owner != v.Owner || again.Serial != v.Serial {
			t.Errorf("%+v becomes %+v, %v", v, again, err)
		}
	})
}
