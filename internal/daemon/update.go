package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"

	"ward/internal/agent/attester"
	"ward/internal/agent/localapi"
	"ward/internal/agent/updategate"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
)

// assembleUpdate makes the role that moves the anti-rollback counter.
func (d *daemon) assembleUpdate(chip *tpm.Lazy, boot *bootState) *updategate.Gate {
	c := updategate.Config{
		Verdict: verdict{boot.attester}, Automatic: d.config.Update.Automatic(), State: filepath.Join(d.config.Paths.State, "update.json"),
		Recorder: d.recorder, Alive: d.alive("updategate"), Log: d.log.With("role", "updategate"),
	}
	key, err := anchors.PolicyKey(filepath.Join(d.config.Paths.Trust, "policy"))
	switch {
	case err == nil:
		c.Trusted, c.Counter = &key, rollback{chip, key}
	case !errors.Is(err, fs.ErrNotExist):
		d.log.Error("load policy key; the anti-rollback counter stays where it is", "error", err)
	}
	gate := updategate.New(c)
	d.add("updategate", slowBound, gate.Run)
	return gate
}

// verdict gives the gate the newest verdict on this boot.
type verdict struct{ attester *attester.Attester }

func (v verdict) Running(ctx context.Context) (*release.Verified, bool, error) {
	s, err := v.attester.Judged(ctx)
	return s.Release, s.Result.Verdict == appraisal.Affirming, err
}

// rollback is the anti-rollback counter of a policy key.
type rollback struct {
	chip *tpm.Lazy
	key  policy.Key
}

func (r rollback) Read(ctx context.Context) (uint64, error) {
	return tpm.With(r.chip, func(t *tpm.TPM) (uint64, error) { return t.ReadCounter(ctx, policy.RollbackCounter(r.key), nil) })
}

func (r rollback) Raise(ctx context.Context, permission policy.Raise) error {
	_, err := tpm.With(r.chip, func(t *tpm.TPM) (struct{}, error) { return struct{}{}, t.Raise(ctx, r.key, permission) })
	return err
}

// confirmUpdate is the gate as the local socket asks it.
func confirmUpdate(gate *updategate.Gate) localapi.Action {
	return localapi.ConfirmUpdate(func(ctx context.Context, by string) (localapi.Update, error) {
		s, err := gate.Confirm(ctx, by)
		switch {
		case errors.Is(err, updategate.ErrRefused):
			err = localapi.Refuse(http.StatusConflict, "%v", err)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			err = localapi.Refuse(http.StatusServiceUnavailable, "the boot has not been appraised yet, or the TPM is busy: ask again")
		}
		return describeUpdate(s), err
	})
}

func describeUpdate(s updategate.Status) localapi.Update {
	return localapi.Update{
		State: s.Gate.String(), Counter: s.Counter, Base: s.Base, Index: s.Index,
		Confirmed: s.Confirmed, Raisable: s.Raisable, Detail: s.Reason,
	}
}
