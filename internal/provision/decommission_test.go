package provision_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/format/dsse"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

const planted = "planted secret 4711"

// fill puts things into the state directory that must not be found afterwards.
func fill(t testing.TB, p *plant) {
	t.Helper()
	must(t, p.store().SetSecret("database", sealedBy(t, p.chip(t))))
	must(t, os.MkdirAll(filepath.Join(p.state, "attester/deep"), 0o700))
	for _, name := range []string{"session", "attester/deep/release", "left.new"} {
		must(t, os.WriteFile(filepath.Join(p.state, name), []byte(planted), 0o600))
	}
	must(t, os.Mkdir(filepath.Join(p.state, "lost+found"), 0o700))
	must(t, os.Symlink("/etc/hostname", filepath.Join(p.state, "link")))
}

func gone(t testing.TB, p *plant) {
	t.Helper()
	entries, err := os.ReadDir(p.state)
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != "lost+found" {
		t.Errorf("the state folder holds %v", entries)
	}
	for name, text := range files(t, p.state) {
		if strings.Contains(text, planted) {
			t.Errorf("%s holds what was planted", name)
		}
	}
}

// The farewell is signed by the reporting key; nothing that was planted is left;
// the TPM holds nothing of Ward's and can be provisioned again.
//
// Verifies: SR-049
func TestDecommission(t *testing.T) {
	p := newPlant(t)
	fill(t, p)
	all, err := p.store().Generations(enrolment.Reporting)
	must(t, err)
	key, err := tpm.Blob{Public: all[0].Key.Public}.Key()
	must(t, err)
	// What an open file shows is what a block of the disk would hold.
	open, err := os.Open(filepath.Join(p.state, "attester/deep/release"))
	must(t, err)
	defer open.Close()
	var envelope []byte
	o := provision.Parting{State: p.state, Vault: p.vault, PolicyKey: &p.key, Now: now, Farewell: func(b []byte) error {
		envelope = b
		if len(files(t, filepath.Join(p.state, "journal"))) == 0 {
			t.Error("the farewell is not in the journal before the wipe")
		}
		return nil
	}}
	must(t, provision.Decommission(t.Context(), p.chip(t), p.store(), o))
	gone(t, p)
	b := make([]byte, 100)
	if n, _ := open.ReadAt(b, 0); bytes.Contains(b[:n], []byte(planted)) {
		t.Error("a file was removed and not written over")
	}
	ring, err := dsse.NewKeyring(key.Public)
	must(t, err)
	e, err := provision.VerifyFarewell(envelope, ring)
	if err != nil || e.Source.Device != "SN-000123" || e.Source.Tenant != "acme" || e.Sequence == 0 {
		t.Errorf("farewell %+v, %v", e, err)
	}
	changed := bytes.Replace(envelope, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
	if _, err := provision.VerifyFarewell(changed, ring); err == nil {
		t.Error("a changed farewell is believed")
	}
	chip := p.chip(t)
	for _, handle := range []uint32{tpm.HandleSRK, tpm.HandleAK} {
		if _, err := chip.ReadPublic(t.Context(), handle); !errors.Is(err, tpm.ErrNoKey) {
			t.Errorf("key 0x%08x: %v", handle, err)
		}
	}
	// Cut off after the wipe: again, without a farewell.
	again := provision.Parting{State: p.state, Vault: p.vault, PolicyKey: &p.key}
	must(t, provision.Decommission(t.Context(), p.chip(t), p.store(), again))

	opts := p.options()
	opts.Base = base + 10 // a new counter starts above the highest that was removed
	_, err = provision.Run(t.Context(), p.chip(t), p.store(), opts)
	must(t, err)
}

// Verifies: SR-049
func TestDecommissionKeepsUntilTheFarewellIsKept(t *testing.T) {
	p := newPlant(t)
	fill(t, p)
	wrong := *p.vault
	wrong.Owner = strings.Repeat("11", 32)
	other := wrong
	other.Serial = "SN-2"
	keep := func([]byte) error { return nil }
	for name, o := range map[string]provision.Parting{
		"the farewell cannot be kept": {State: p.state, Farewell: func([]byte) error { return errors.New("disk full") }},
		"wrong value":                 {State: p.state, Vault: &wrong, Farewell: keep},
		"another device's vault":      {State: p.state, Vault: &other, Farewell: keep},
	} {
		if err := provision.Decommission(t.Context(), p.chip(t), p.store(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := p.store().Device(); err != nil {
			t.Errorf("%s: the identity is gone: %v", name, err)
		}
	}
	// A dead TPM cannot sign, and the wipe works without a farewell.
	dead := tpm.New(func() (tpm.Transport, error) { return nil, tpm.ErrAbsent })
	if err := provision.Decommission(t.Context(), dead, p.store(), provision.Parting{State: p.state, Farewell: keep}); err == nil {
		t.Error("a dead TPM signed")
	}
	must(t, provision.Decommission(t.Context(), dead, p.store(), provision.Parting{State: p.state}))
	gone(t, p)
	// The keys in the TPM stay, and the counter does.
	if n, err := p.chip(t).ReadCounter(t.Context(), policy.RollbackCounter(p.key), nil); err != nil || n != base {
		t.Errorf("counter %d, %v", n, err)
	}
}

// Another TPM has the disk: it cannot say farewell in the device's name.
//
// Verifies: SR-049
func TestFarewellOfACopy(t *testing.T) {
	p := newPlant(t)
	thief := swtpmtest.Start(t, false)
	_, err := open(t, thief.Socket).ProvisionKeys(t.Context())
	must(t, err)
	o := provision.Parting{State: p.state, Now: time.Now(), Farewell: func([]byte) error { t.Error("signed"); return nil }}
	if err := provision.Decommission(t.Context(), open(t, thief.Socket), p.store(), o); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("%v, want ErrOtherTPM", err)
	}
}
