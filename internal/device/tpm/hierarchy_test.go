package tpm_test

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/device/tpm"
)

// Ownership that was cut off between the two hierarchies is completed, and a TPM
// in another state is not touched.
//
// Verifies: SR-048
func TestOwnershipIsCompleted(t *testing.T) {
	socket := startTPM(t, false)
	d := open(t, socket)
	if _, err := d.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner := tpm.NewAuth()
	if err := d.CompleteOwnership(t.Context(), owner); !errors.Is(err, tpm.ErrOwned) {
		t.Errorf("a TPM without any authorisation: %v, want ErrOwned", err)
	}
	if err := d.ProveOwner(t.Context()); err != nil {
		t.Errorf("the empty authorisation of a TPM without an owner: %v", err)
	}
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: tpm.NewAuth()},
	}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.CompleteOwnership(t.Context(), []byte("short")); err == nil {
		t.Error("a short authorisation is taken")
	}
	if err := d.CompleteOwnership(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(t.Context()); err != nil || !s.OwnerSet || !s.LockoutSet {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := d.ProveOwner(t.Context()); err != nil {
		t.Errorf("the owner: %v", err)
	}
	stranger := open(t, socket)
	for _, wrong := range [][]byte{nil, tpm.NewAuth()} {
		if err := stranger.Authorize(tpm.Authorizations{Owner: wrong}); err != nil {
			t.Fatal(err)
		}
		if err := stranger.ProveOwner(t.Context()); !errors.Is(err, tpm.ErrOwned) {
			t.Errorf("a wrong owner: %v, want ErrOwned", err)
		}
		if err := stranger.EvictKeys(t.Context()); !errors.Is(err, tpm.ErrOwned) {
			t.Errorf("a wrong owner removes keys: %v", err)
		}
	}
	if err := d.CompleteOwnership(t.Context(), owner); !errors.Is(err, tpm.ErrOwned) {
		t.Errorf("completed twice: %v", err)
	}
}

// A storage root key that was read from a file works as a pin.
//
// Verifies: SR-012
func TestPinFromAFile(t *testing.T) {
	d := manufactured(t)
	srk, err := tpm.Blob{Public: d.keys.SRK.Area}.Key()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := d.Seal(t.Context(), []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, d.socket)
	other.Pin(srk)
	if b, err := other.Unseal(t.Context(), sealed, nil); err != nil || string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
}

// A TPM says who made it and which firmware it runs.
//
// Verifies: SR-091
func TestMaker(t *testing.T) {
	m, err := open(t, startTPM(t, false)).Maker(t.Context())
	if err != nil || m.Name != "IBM" || m.Firmware == [2]uint32{} {
		t.Errorf("%+v, %v; swtpm says IBM and a version", m, err)
	}
}
