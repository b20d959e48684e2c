package keyuse

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/agent/localapi"
	"ward/internal/contracttest"
	"ward/internal/device/est"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/event"
)

// keyring is an identity that signs, or says why not.
type keyring struct {
	err    error
	asked  []string
	events []string
}

func (k *keyring) Sign(use enrolment.Use, _ [32]byte) ([]byte, error) {
	k.asked = append(k.asked, "sign "+string(use))
	return []byte("signature"), k.err
}
func (k *keyring) Chain(use enrolment.Use) ([]byte, error) { return []byte("chain of " + use), k.err }
func (k *keyring) Renew(context.Context) error             { k.asked = append(k.asked, "renew"); return k.err }
func (k *keyring) Enroll(context.Context) error            { k.asked = append(k.asked, "enroll"); return k.err }
func (k *keyring) Status() identity.Status {
	return identity.Status{State: "ready", Uses: []identity.UseStatus{{Use: enrolment.Reporting, State: "connected", Generation: 2}}}
}
func (k *keyring) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	k.events = append(k.events, e.Type+" "+e.Subject+" "+string(e.Report))
	return nil
}

// short is a folder whose path leaves room for a socket's name, unix(7).
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ward")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newKeyring() (*keyring, *Use) {
	k := &keyring{}
	u := New(nil, k)
	u.who = k
	return k, u
}

// The actions over the socket itself, with the typed client.
//
// Verifies: SR-046
func TestKeysThroughTheSocket(t *testing.T) {
	k, u := newKeyring()
	socket := filepath.Join(short(t), "s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	api := localapi.New(localapi.Config{Socket: socket, Actions: u.Actions(), Status: func() localapi.Status { return localapi.Status{} }})
	go func() { done <- api.Run(ctx) }()
	defer func() { cancel(); <-done }()
	c := localapi.NewClient(socket)
	for _, err := c.Status(ctx); errors.Is(err, localapi.ErrDown); _, err = c.Status(ctx) {
		time.Sleep(time.Millisecond)
	}
	digest := sha256.Sum256([]byte("x"))
	if b, err := c.Sign(ctx, "service", digest); err != nil || string(b) != "signature" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := c.Chain(ctx, "service"); err != nil || string(b) != "chain of service" {
		t.Errorf("%q, %v", b, err)
	}
	if i, err := c.RenewIdentity(ctx); err != nil || i.State != "ready" || len(i.Uses) != 1 || i.Uses[0].Generation != 2 {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := c.EnrollIdentity(ctx); err != nil {
		t.Error(err)
	}
	for _, in := range []any{"nonsense", map[string]string{"use": "service", "digest": "AAAA"}} {
		var r *localapi.Refusal
		if err := c.Do(ctx, "/v1/identity/sign", in, nil); !errors.As(err, &r) || r.Status != http.StatusBadRequest {
			t.Errorf("%v: %v", in, err)
		}
	}
	for _, row := range []struct {
		err    error
		status int
		says   string
	}{
		{tpm.ErrBootState, 409, "identity.boot-state"},
		{tpm.ErrPolicy, 409, "identity.boot-state"},
		{tpm.ErrRollback, 409, "identity.rolled-back"},
		{identity.ErrNone, 409, "no certificate"},
		{identity.ErrNoRegistrar, 409, "identity.registrar"},
		{&est.Error{Status: 403, Text: "unknown maker"}, 409, "unknown maker"},
		{identity.ErrBusy, 503, "not done yet"},
		{context.DeadlineExceeded, 503, "wardctl status"},
		{tpm.ErrTimeout, 500, tpm.ErrTimeout.Error()},
	} {
		k.err = fmt.Errorf("do it: %w", row.err)
		_, err := c.Sign(ctx, "service", digest)
		_, renewErr := c.RenewIdentity(ctx)
		for _, err := range []error{err, renewErr} {
			var r *localapi.Refusal
			if !errors.As(err, &r) || r.Status != row.status || !strings.Contains(r.Reason, row.says) {
				t.Errorf("%v: %v, want %d %q", row.err, err, row.status, row.says)
			}
		}
	}
	if n := u.count.Load(); n != 1 {
		t.Errorf("%d signatures are counted, want 1", n)
	}
}

// The first use of a key by a user is recorded, and no flood of them.
//
// Verifies: SR-046
func TestUseOfKeysIsRecorded(t *testing.T) {
	k, u := newKeyring()
	for _, by := range []string{"uid 990, pid 7", "uid 990, pid 8", "uid 991, pid 9"} {
		for _, use := range []string{"service", "reporting"} {
			if _, err := u.sign(t.Context(), by, use, [32]byte{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := `[ward.identity.used service {"by":"uid 990","use":"service"} ward.identity.used reporting {"by":"uid 990","use":"reporting"} ` +
		`ward.identity.used service {"by":"uid 991","use":"service"} ward.identity.used reporting {"by":"uid 991","use":"reporting"}]`
	if got := fmt.Sprint(k.events); got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
	for i := range 2 * maxSigners {
		u.left = 1
		_, _ = u.sign(t.Context(), fmt.Sprintf("uid %d, pid 1", i), "service", [32]byte{})
	}
	if len(k.events) > maxSigners+4 {
		t.Errorf("%d events", len(k.events))
	}
}

// Programs on the device cannot take the TPM for themselves.
//
// Verifies: SR-046
func TestSignaturesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, u := newKeyring()
		made := 0
		for range 100 {
			if _, err := u.sign(t.Context(), "uid 0, pid 1", "service", [32]byte{}); err == nil {
				made++
			} else if r := (*localapi.Refusal)(nil); !errors.As(err, &r) || r.Status != http.StatusTooManyRequests {
				t.Fatal(err)
			}
		}
		if made != signBurst {
			t.Errorf("%d signatures at once", made)
		}
		time.Sleep(5 * signEvery)
		for range 100 {
			_, _ = u.sign(t.Context(), "uid 0, pid 1", "service", [32]byte{})
		}
		if n := len(k.asked); n != signBurst+5 {
			t.Errorf("%d signatures after the pause", n)
		}
	})
}
