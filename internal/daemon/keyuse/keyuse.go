// Package keyuse lets other programs on the device use its keys through the local
// socket, as often as the TPM bears it, and records who did (blueprint, section 8).
package keyuse

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ward/internal/agent/identity"
	"ward/internal/agent/localapi"
	"ward/internal/device/est"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// askTime bounds how long somebody on the device waits for the registrar.
	askTime = 30 * time.Second
	// signBurst and signEvery bound the signatures for other programs: a handshake
	// takes one, and the TPM is not theirs alone.
	signBurst = 20
	signEvery = 500 * time.Millisecond
	// maxSigners bounds the users whose first use of a key is remembered.
	maxSigners = 256
)

// Describe is the identity for the local socket.
func Describe(s identity.Status) localapi.Identity {
	out := localapi.Identity{
		State: s.State, NotAfter: s.NotAfter, Detail: s.Detail, Registrar: s.Registrar, NextTry: s.NextTry,
		Serial: s.Serial, CRL: s.CRL, CRLNext: s.CRLNext, Roots: s.Roots, Learned: s.Learned,
	}
	for _, u := range s.Uses {
		out.Uses = append(out.Uses, localapi.IdentityUse{
			Use: string(u.Use), State: u.State, Generation: u.Generation, NotAfter: u.NotAfter, DaysLeft: u.DaysLeft, RenewAt: u.RenewAt, Pending: u.Pending,
		})
	}
	return out
}

// Use lets other programs on the device use its keys, and says who did.
type Use struct {
	who interface {
		Sign(use enrolment.Use, digest [32]byte) ([]byte, error)
		Chain(use enrolment.Use) ([]byte, error)
		Renew(ctx context.Context) error
		Enroll(ctx context.Context) error
		Status() identity.Status
	}
	recorder identity.Recorder
	count    atomic.Uint64

	mu   sync.Mutex
	left int       // signatures that may be made at once
	at   time.Time // when left was right
	seen map[string]bool
}

// New lets them use the keys of who.
func New(who *identity.Role, recorder identity.Recorder) *Use {
	return &Use{who: who, recorder: recorder, left: signBurst, at: time.Now(), seen: make(map[string]bool)}
}

// Signed counts the signatures that were given.
func (k *Use) Signed() uint64 { return k.count.Load() }

// Actions are what the local socket is asked for.
func (k *Use) Actions() []localapi.Action {
	return []localapi.Action{
		localapi.RenewIdentity(func(ctx context.Context) (localapi.Identity, error) { return k.issue(ctx, k.who.Renew) }),
		localapi.EnrollIdentity(func(ctx context.Context) (localapi.Identity, error) { return k.issue(ctx, k.who.Enroll) }),
		localapi.SignWithIdentity(k.sign),
		localapi.IdentityChain(func(use string) ([]byte, error) {
			text, err := k.who.Chain(enrolment.Use(use))
			return text, refuse(err)
		}),
	}
}

func (k *Use) issue(ctx context.Context, do func(context.Context) error) (localapi.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err := do(ctx)
	return Describe(k.who.Status()), refuse(err)
}

func (k *Use) sign(ctx context.Context, by, use string, digest [32]byte) ([]byte, error) {
	if !k.take() {
		return nil, localapi.Refuse(http.StatusTooManyRequests, "too many signatures: at most one in %s, %d at once", signEvery, signBurst)
	}
	signature, err := k.who.Sign(enrolment.Use(use), digest)
	if err != nil {
		return nil, refuse(err)
	}
	k.count.Add(1)
	return signature, k.note(ctx, by, use)
}

// take says whether a signature may be made now.
func (k *Use) take() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if more := int(time.Since(k.at) / signEvery); more > 0 {
		k.left, k.at = min(signBurst, k.left+more), k.at.Add(time.Duration(more)*signEvery)
	}
	if k.left == 0 {
		return false
	}
	k.left--
	return true
}

// note records the first use of a key by a user in this boot. A signature that
// cannot be recorded is not given away.
func (k *Use) note(ctx context.Context, by, use string) error {
	user, _, _ := strings.Cut(by, ",") // without the process
	k.mu.Lock()
	known := k.seen[user+" "+use] || len(k.seen) >= maxSigners
	k.seen[user+" "+use] = true
	k.mu.Unlock()
	if known {
		return nil
	}
	b, err := json.Marshal(map[string]string{"use": use, "by": user})
	if err == nil {
		err = k.recorder.Record(ctx, event.Event{Type: event.IdentityUsed, Subject: use, Severity: finding.Info, Report: b})
	}
	if err != nil {
		k.mu.Lock()
		delete(k.seen, user+" "+use)
		k.mu.Unlock()
	}
	return err
}

// refuse gives an error of the identity its status: 409 where the device's state
// stands in the way, 503 where it is a matter of waiting.
func refuse(err error) error {
	var answer *est.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tpm.ErrRollback):
		return localapi.Refuse(http.StatusConflict, "%s: %v", finding.IdentityRollback, err)
	case errors.Is(err, tpm.ErrBootState), errors.Is(err, tpm.ErrPolicy):
		return localapi.Refuse(http.StatusConflict, "%s: %v", finding.IdentityBootState, err)
	case errors.Is(err, identity.ErrNone), errors.Is(err, identity.ErrNotReady), errors.Is(err, identity.ErrNoRegistrar):
		return localapi.Refuse(http.StatusConflict, "%v", err)
	case errors.As(err, &answer):
		return localapi.Refuse(http.StatusConflict, "%v", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, identity.ErrBusy):
		return localapi.Refuse(http.StatusServiceUnavailable, "not done yet: %v; wardctl status shows what becomes of it", err)
	}
	return err
}
