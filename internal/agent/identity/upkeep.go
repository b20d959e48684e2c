package identity

import (
	"context"
	"errors"
	"net/http"
	"time"

	"ward/internal/agent/identity/board"
	"ward/internal/agent/identity/pace"
	"ward/internal/agent/identity/roots"
	"ward/internal/device/est"
	"ward/internal/trust/serverauth"
)

// upkeep asks for the revocation list once a day and when a new one is due, and
// for the fleet's roots once a week. It says whether something new came.
func (r *Role) upkeep(ctx context.Context) bool {
	list, trust := r.tasks[taskCRL], r.tasks[taskRoots]
	if !list.Due() && !trust.Due() {
		return false
	}
	ca, err := r.dial(enrol)
	if err != nil {
		list.Failed(0)
		trust.Failed(0)
		return false
	}
	defer ca.Close()
	changed := false
	if trust.Due() {
		changed = r.after(ctx, trust, rootsEvery, r.fetchRoots(ctx, ca)) || changed
		r.config.Alive()
	}
	if list.Due() && ctx.Err() == nil {
		every, news := r.fetchCRL(ctx, ca)
		changed = r.after(ctx, list, every, news) || changed
		r.config.Alive()
	}
	return changed
}

var errUnchanged = errors.New("there is nothing new")

// after paces a task by what came of it, and says whether something new did.
func (r *Role) after(ctx context.Context, t *pace.Retry, every time.Duration, err error) bool {
	answer := (*est.Error)(nil)
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil, errors.Is(err, errUnchanged):
		t.Done(every)
		r.board.Clear(ctx, board.AboutRegistrar)
		return err == nil
	case errors.As(err, &answer):
		r.board.Clear(ctx, board.AboutRegistrar)
		if answer.Status == http.StatusNotFound { // it has none
			t.Done(every)
			return false
		}
		t.Failed(answer.RetryAfter)
	case errors.Is(err, errStore), errors.Is(err, est.ErrAnswer), errors.Is(err, serverauth.ErrCRLFormat),
		errors.Is(err, serverauth.ErrCRLSignature), errors.Is(err, serverauth.ErrCRLOlder):
		t.Failed(0)
	default:
		r.unreachable(ctx, t, serverauth.Explain(err))
		t.Failed(0)
	}
	r.config.Log.Warn("ask the registrar", "error", err)
	return false
}

// fetchCRL takes a list that the fleet signed and that is not older than the one
// that is known. What it proves of the time is kept.
func (r *Role) fetchCRL(ctx context.Context, ca CA) (time.Duration, error) {
	der, err := ca.CRL(ctx)
	if err != nil {
		return crlEvery, err
	}
	known := r.trustNow()
	list, err := serverauth.ParseCRL(der, r.issuers(known.roots))
	if err == nil {
		err = serverauth.Newer(list, known.crl)
	}
	if r.badCRL = err; err != nil {
		return crlEvery, err
	}
	every := crlEvery
	if left := list.NextUpdate.Sub(r.now()); !list.NextUpdate.IsZero() && left > 0 {
		every = max(crlLeast, min(every, left+left/3)) // the spread of a quarter begins at the next update
	}
	if known.crl != nil && string(known.crl.Raw) == string(list.Raw) {
		return every, errUnchanged
	}
	if err := errors.Join(r.store.SetCRL(der), r.store.SetFloor(list.ThisUpdate)); err != nil {
		return every, errors.Join(errStore, err)
	}
	return every, nil
}

// fetchRoots takes further roots of the fleet that one which is trusted vouches
// for.
func (r *Role) fetchRoots(ctx context.Context, ca CA) error {
	offered, err := ca.CACerts(ctx)
	if err != nil {
		return err
	}
	stored, err := r.storedRoots()
	if err != nil {
		stored = nil // damage is told elsewhere; what is offered mends it
	}
	learned, changed := roots.Learn(r.trustNow().image, stored, offered, r.now())
	if !changed || len(learned) == 0 {
		return errUnchanged
	}
	if err := r.store.SetRoots(roots.Flat(learned)); err != nil {
		return errors.Join(errStore, err)
	}
	for _, l := range learned {
		r.config.Log.Info("a root of the fleet is vouched for", "subject", l.Root.Subject, "by", l.Voucher.Issuer)
	}
	return nil
}
