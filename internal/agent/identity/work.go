package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"ward/internal/agent/identity/board"
	"ward/internal/agent/identity/issued"
	"ward/internal/agent/identity/pace"
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

// task is something that is done at the registrar now and then.
type task string

const (
	taskReporting task = "reporting"
	taskService   task = "service"
	taskCRL       task = "crl"
	taskRoots     task = "roots"
)

const (
	// bootPause is the pause after the TPM refused the service key. Within a boot
	// only new approvals can change that.
	bootPause = time.Hour
	// crlEvery and rootsEvery are how often the registrar is asked for what changes
	// seldom, spread by a quarter.
	crlEvery   = 24 * time.Hour
	rootsEvery = 7 * 24 * time.Hour
	// crlLeast is the shortest pause, whatever a list says of its next update.
	crlLeast = 10 * time.Minute
	// patience is how often a registrar may be out of reach before that is said.
	patience = 3
)

// work does what is due at the registrar. It says whether something new was
// issued.
func (r *Role) work(ctx context.Context) bool {
	r.trySigning(ctx)
	if r.config.Registrar == "" || !r.ready || r.serialDiffers() {
		return false
	}
	again := false
	if kind := r.needs(enrolment.Reporting); kind != nothing && r.tasks[taskReporting].Due() {
		again = r.attempt(ctx, enrolment.Reporting, kind) == nil
	}
	if kind := r.needs(enrolment.Service); kind != nothing && r.tasks[taskService].Due() && len(r.reporting) > 0 && ctx.Err() == nil {
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
	case len(have) > 0 && !r.now().Before(pace.RenewAt(have[0].leaf())):
		return renew
	case len(have) > 0:
		return nothing
	case use == enrolment.Service:
		return enrol
	}
	// A TPM that is gone or another one is no reason for a new key.
	switch r.board.Holds(board.AboutReporting) {
	case finding.IdentityMissing, finding.IdentityExpired, finding.IdentityMismatch:
		return enrol
	}
	return nothing
}

func (r *Role) revoked() bool { return r.board.Holds(board.AboutOwn) != "" }

// untilDue is how long nothing is to be done.
func (r *Role) untilDue() time.Duration {
	if r.config.Registrar == "" || !r.ready || r.serialDiffers() {
		return recheck
	}
	wait := recheck
	for use, t := range map[enrolment.Use]task{enrolment.Reporting: taskReporting, enrolment.Service: taskService} {
		if r.needs(use) != nothing && (use == enrolment.Reporting || len(r.reporting) > 0) {
			wait = min(wait, time.Until(r.tasks[t].Next))
		}
	}
	if len(r.reporting) > 0 {
		if left := pace.RenewAt(r.reporting[0].leaf()).Sub(r.now()); left > 0 {
			wait = min(wait, left)
		}
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
		t.Done(0)
		r.board.Clear(ctx, aboutOf(use))
		r.board.Clear(ctx, board.AboutRegistrar)
		r.setPending(use, "")
		for _, u := range []task{taskCRL, taskRoots} {
			r.tasks[u].Next = time.Time{}
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
		return board.AboutService
	}
	return board.AboutEnrolment
}

// shut says whether the TPM refuses a key that is bound to the boot state. That
// is no fault of the identity: the key waits for a boot that is approved.
func (r *Role) shut(ctx context.Context, use enrolment.Use, t *pace.Retry, err error) bool {
	switch {
	case use != enrolment.Service:
		return false
	case errors.Is(err, ErrNoPolicy):
		r.board.Clear(ctx, board.AboutService)
	case errors.Is(err, tpm.ErrRollback):
		r.board.Raise(ctx, board.AboutService, finding.IdentityRollback, "%s", oneLine(err))
	case errors.Is(err, tpm.ErrBootState), errors.Is(err, tpm.ErrPolicy), errors.Is(err, tpm.ErrNoIndex), errors.Is(err, tpm.ErrNeverWritten):
		r.board.Raise(ctx, board.AboutService, finding.IdentityBootState, "%s", oneLine(err))
	default:
		return false
	}
	t.Next = time.Now().Add(pace.Spread(bootPause))
	return true
}

// failed sorts an error of an exchange: whom it is about, and when to try again.
func (r *Role) failed(ctx context.Context, t *pace.Retry, about string, kind need, err error) {
	r.config.Log.Warn("ask the registrar", "for", kind, "error", err)
	code := finding.IdentityRefused
	if kind == renew {
		code = finding.IdentityRenewal
	}
	answer := (*est.Error)(nil)
	switch {
	case errors.As(err, &answer):
		r.board.Clear(ctx, board.AboutRegistrar)
		if pace.Decision(answer.Status) {
			t.Refused(answer.RetryAfter)
			r.board.Raise(ctx, about, code, "%s", oneLine(err))
			return
		}
	case errors.Is(err, issued.ErrProfile), errors.Is(err, est.ErrAnswer), errors.Is(err, tpm.ErrCredential),
		errors.Is(err, tpm.ErrNoCertificate), errors.Is(err, tpm.ErrCertificateKey):
		t.Refused(0)
		r.board.Clear(ctx, board.AboutRegistrar)
		r.board.Raise(ctx, about, code, "%s", oneLine(err))
		return
	case errors.Is(err, tpm.ErrOtherTPM), errors.Is(err, tpm.ErrNoKey):
		t.Failed(0)
		r.board.Raise(ctx, about, finding.IdentityOtherTPM, "%s", oneLine(err))
		return
	case pace.OfTPM(err), errors.Is(err, errStore):
		t.Failed(0) // the look at the identity says what is wrong
		return
	default:
		if reason := serverauth.Explain(err); reason.Step == serverauth.Admission {
			r.board.Raise(ctx, about, code, "%s", reason.Detail)
		} else {
			r.unreachable(ctx, t, reason)
		}
	}
	after := time.Duration(0)
	if answer != nil {
		after = answer.RetryAfter
	}
	t.Failed(after)
	if kind == renew && t.Fails >= patience {
		r.board.Raise(ctx, about, finding.IdentityRenewal, "%s", oneLine(err))
	}
}

// unreachable says at once that a registrar is not the fleet's, and that it is not
// there after some attempts.
func (r *Role) unreachable(ctx context.Context, t *pace.Retry, reason serverauth.Refusal) {
	if reason.Step != serverauth.Reach {
		r.board.Raise(ctx, board.AboutRegistrar, reason.Code, "registrar %s: %s", r.config.Registrar, reason.Detail)
		return
	}
	if t.Fails+1 >= patience {
		r.board.Raise(ctx, board.AboutRegistrar, finding.LinkRegistrar, "registrar %s: %s", r.config.Registrar, reason.Detail)
	}
}

// trySigning finds out once in a boot, and again while it fails, whether the
// service key works: a boot state that is not approved must be seen before a
// clinical service is needed.
func (r *Role) trySigning(ctx context.Context) {
	t := r.tasks[taskService]
	if len(r.service) == 0 || r.tried == r.service[0].Number || r.needs(enrolment.Service) != nothing || !t.Due() {
		return
	}
	digest := sha256.Sum256([]byte("ward: does the service key sign"))
	_, err := r.service[0].signer.Sign(nil, digest[:], sha256Options)
	if err == nil {
		r.tried = r.service[0].Number
		r.board.Clear(ctx, board.AboutService)
		r.setPending(enrolment.Service, "")
		return
	}
	r.setPending(enrolment.Service, oneLine(err))
	if !r.shut(ctx, enrolment.Service, t, err) {
		t.Failed(0)
	}
}
