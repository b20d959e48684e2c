package provision_test

import (
	"bytes"
	"errors"
	"testing"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/format/tss2"
	"ward/internal/provision"
	"ward/internal/trust/policy"
	"ward/internal/trust/volume"
)

func sealedBy(t testing.TB, chip *tpm.TPM) tss2.File {
	t.Helper()
	blob, err := chip.Seal(t.Context(), []byte("secret"), nil)
	must(t, err)
	return provision.SecretFile(blob)
}

// The token of a volume gives its key to this TPM, and to no other.
//
// Verifies: SR-048
func TestSealVolume(t *testing.T) {
	p := newPlant(t)
	other := swtpmtest.Start(t, false)
	_, err := open(t, other.Socket).ProvisionKeys(t.Context())
	must(t, err)
	bound := policy.BootPolicy(p.key)
	// Before everything else, as on a production line.
	first := swtpmtest.Start(t, false)
	if _, _, err := provision.SealVolume(t.Context(), open(t, first.Socket), nil); err != nil {
		t.Errorf("a new TPM: %v", err)
	}
	l := newLine(t)
	if _, err := provision.Run(t.Context(), open(t, first.Socket), idstore.Open(t.TempDir()), l.options()); err != nil {
		t.Errorf("then the factory step: %v", err)
	}
	for name, c := range map[string]struct {
		seal *policy.Digest
		open *tpm.Boot
	}{"to the TPM": {}, "to the boot state": {&bound, p.boot(t)}} {
		key, token, err := provision.SealVolume(t.Context(), p.chip(t), c.seal)
		must(t, err)
		sealed, err := volume.ParseToken(token)
		must(t, err)
		blob := tpm.Blob{Public: sealed.Public, Private: sealed.Private}
		got, err := p.chip(t).Unseal(t.Context(), blob, c.open)
		if err != nil || !bytes.Equal(got, key[:]) || bytes.Contains(token, key[:]) {
			t.Errorf("%s: %x, %v; want %x", name, got, err, key)
		}
		if _, err := open(t, other.Socket).Unseal(t.Context(), blob, c.open); !errors.Is(err, tpm.ErrOtherTPM) {
			t.Errorf("%s: another TPM: %v", name, err)
		}
		if c.seal != nil {
			if _, err := p.chip(t).Unseal(t.Context(), blob, nil); !errors.Is(err, tpm.ErrPolicy) {
				t.Errorf("%s: without the policy: %v", name, err)
			}
		}
		again, _, err := provision.SealVolume(t.Context(), p.chip(t), c.seal)
		if must(t, err); again == key {
			t.Error("two volumes have the same key")
		}
	}
}
