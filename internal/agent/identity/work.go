package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"ward/internal/agent/identity/issued"
	"ward/internal/device/est"
	"ward/internal/device/tpm"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/finding"
	"ward/internal/trust/serverauth"
)

var (
	// ErrNoPolicy: the device has no policy key, so that it can have no service key.
	ErrNoPolicy = errors.New("the device has no policy key for a service key")
	// ErrNoRegistrar: none is configured.
	ErrNoRegistrar = errors.New("no registrar is configured: set identity.registrar, or enrol with files")
)

// work does what is due at the registrar. It says whether something new was
// issued.
func (r *Role) work(ctx context.Context) bool {
	r.trySigning(ctx)
	if r.config.Registrar == "" || !r.ready || r.serialDiffers() {
		return false
	}
	again := false
	if kind := r.needs(enrolment.Reporting); kind != nothing && r.tasks[taskReporting].due() {
		again = r.attempt(ctx, enrolment.Reporting, kind) == nil
	}
	if kind := r.needs(enrolment.Service); kind != nothing && r.tasks[taskService].due() && len(r.reporting) > 0 && ctx.Err() == nil {
		again = r.attempt(ctx, enrolment.Service, kind) == nil || again
	}
	if len(r.reporting) > 0 && ctx.Err() == nil {
		again = r.upkeep(ctx) || again
	}
	return again
}

// need is what a use needs of the registrar.
type need string

const (
	nothing need = ""
	enrol   need = "enrol"
	renew   need = "renew"
)

// needs decides. A certificate that was revoked is not renewed: who revoked it
// decides what comes next, and says so with wardctl identity enroll.
func (r *Role) needs(use enrolment.Use) need {
	have := r.reporting
	if use == enrolment.Service {
		have = r.service
	}
	switch {
	case len(have) > 0 && r.revoked():
		return nothing
	case len(have) > 0 && !r.now().Before(renewAt(have[0].leaf())):
		return renew
	case len(have) > 0:
		return nothing
	case use == enrolment.Service:
		return enrol
	}
	// A TPM that is gone or another one is no reason for a new key.
	switch r.board.active[aboutReporting].Code {
	case finding.IdentityMissing, finding.IdentityExpired, finding.IdentityMismatch:
		return enrol
	}
	return nothing
}

func (r *Role) revoked() bool { _, holds := r.board.active[aboutOwn]; return holds }

// untilDue is how long nothing is to be done.
func (r *Role) untilDue() time.Duration {
	if r.config.Registrar == "" || !r.ready || r.serialDiffers() {
		return recheck
	}
	wait := recheck
	for use, t := range map[enrolment.Use]task{enrolment.Reporting: taskReporting, enrolment.Service: taskService} {
		if r.needs(use) != nothing && (use == enrolment.Reporting || len(r.reporting) > 0) {
			wait = min(wait, time.Until(r.tasks[t].next))
		}
	}
	if len(r.reporting) > 0 && r.needs(enrolment.Reporting) == nothing {
		wait = min(wait, renewAt(r.reporting[0].leaf()).Sub(r.now()))
	}
	return max(wait, firstLook)
}

// attempt enrols or renews one key, and says what came of it.
func (r *Role) attempt(ctx context.Context, use enrolment.Use, kind need) error {
	t := r.tasks[task(use)]
	if use == enrolment.Service {
		kind = enrol // the reporting identity vouches for nothing but itself
	}
	err := r.obtain(ctx, use, kind)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		t.done(0)
		r.board.clear(ctx, aboutOf(use))
		r.board.clear(ctx, aboutRegistrar)
		r.setPending(use, "")
		for _, u := range []task{taskCRL, taskRoots} {
			r.tasks[u].next = time.Time{}
		}
		r.config.Log.Info("a certificate was issued", "use", use, "by", kind)
		return nil
	}
	r.setPending(use, oneLine(err))
	if !r.shut(ctx, use, t, err) {
		r.failed(ctx, t, aboutOf(use), kind, err)
	}
	return err
}

func aboutOf(use enrolment.Use) string {
	if use == enrolment.Service {
		return aboutService
	}
	return aboutEnrolment
}

// shut says whether the TPM refuses a key that is bound to the boot state. That
// is no fault of the identity: the key waits for a boot that is approved.
func (r *Role) shut(ctx context.Context, use enrolment.Use, t *retry, err error) bool {
	switch {
	case use != enrolment.Service:
		return false
	case errors.Is(err, ErrNoPolicy):
		r.board.clear(ctx, aboutService)
	case errors.Is(err, tpm.ErrRollback):
		r.board.raise(ctx, aboutService, finding.IdentityRollback, "%s", oneLine(err))
	case errors.Is(err, tpm.ErrBootState), errors.Is(err, tpm.ErrPolicy), errors.Is(err, tpm.ErrNoIndex), errors.Is(err, tpm.ErrNeverWritten):
		r.board.raise(ctx, aboutService, finding.IdentityBootState, "%s", oneLine(err))
	default:
		return false
	}
	t.next = time.Now().Add(spread(bootPause))
	return true
}

// failed sorts an error of an exchange: whom it is about, and when to try again.
func (r *Role) failed(ctx context.Context, t *retry, about string, kind need, err error) {
	r.config.Log.Warn("ask the registrar", "for", kind, "error", err)
	code := finding.IdentityRefused
	if kind == renew {
		code = finding.IdentityRenewal
	}
	answer := (*est.Error)(nil)
	switch {
	case errors.As(err, &answer):
		r.board.clear(ctx, aboutRegistrar)
		if refusal(answer.Status) {
			t.refused(answer.RetryAfter)
			r.board.raise(ctx, about, code, "%s", oneLine(err))
			return
		}
	case errors.Is(err, issued.ErrProfile), errors.Is(err, est.ErrAnswer), errors.Is(err, tpm.ErrCredential),
		errors.Is(err, tpm.ErrNoCertificate), errors.Is(err, tpm.ErrCertificateKey):
		t.refused(0)
		r.board.clear(ctx, aboutRegistrar)
		r.board.raise(ctx, about, code, "%s", oneLine(err))
		return
	case errors.Is(err, tpm.ErrOtherTPM), errors.Is(err, tpm.ErrNoKey):
		t.failed(0)
		r.board.raise(ctx, about, finding.IdentityOtherTPM, "%s", oneLine(err))
		return
	case ofTPM(err), errors.Is(err, errStore):
		t.failed(0) // the look at the identity says what is wrong
		return
	default:
		if reason := serverauth.Explain(err); reason.Step == serverauth.Admission {
			r.board.raise(ctx, about, code, "%s", reason.Detail)
		} else {
			r.unreachable(ctx, t, reason)
		}
	}
	after := time.Duration(0)
	if answer != nil {
		after = answer.RetryAfter
	}
	t.failed(after)
	if kind == renew && t.fails >= patience {
		r.board.raise(ctx, about, finding.IdentityRenewal, "%s", oneLine(err))
	}
}

// unreachable says at once that a registrar is not the fleet's, and that it is not
// there after some attempts.
func (r *Role) unreachable(ctx context.Context, t *retry, reason serverauth.Refusal) {
	if reason.Step != serverauth.Reach {
		r.board.raise(ctx, aboutRegistrar, reason.Code, "registrar %s: %s", r.config.Registrar, reason.Detail)
		return
	}
	if t.fails+1 >= patience {
		r.board.raise(ctx, aboutRegistrar, finding.LinkRegistrar, "registrar %s: %s", r.config.Registrar, reason.Detail)
	}
}

// refusal says whether a status is a decision, and not a moment's trouble.
func refusal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false // 401: the challenge has expired
	}
	return status >= 300 && status < 500
}

func ofTPM(err error) bool {
	for _, e := range []error{
		tpm.ErrAbsent, tpm.ErrTransport, tpm.ErrTimeout, tpm.ErrResponse, tpm.ErrTampered, tpm.ErrBusy, tpm.ErrExhausted, tpm.ErrLockout,
		tpm.ErrAuthorization, tpm.ErrReset, tpm.ErrNotStarted, tpm.ErrFailure, tpm.ErrOccupied,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// trySigning finds out once in a boot, and again while it fails, whether the
// service key works: a boot state that is not approved must be seen before a
// clinical service is needed.
func (r *Role) trySigning(ctx context.Context) {
	t := r.tasks[taskService]
	if len(r.service) == 0 || r.tried == r.service[0].Number || r.needs(enrolment.Service) != nothing || !t.due() {
		return
	}
	digest := sha256.Sum256([]byte("ward: does the service key sign"))
	_, err := r.service[0].signer.Sign(nil, digest[:], sha256Options)
	if err == nil {
		r.tried = r.service[0].Number
		r.board.clear(ctx, aboutService)
		r.setPending(enrolment.Service, "")
		return
	}
	r.setPending(enrolment.Service, oneLine(err))
	if !r.shut(ctx, enrolment.Service, t, err) {
		t.failed(0)
	}
}
