package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// What can go wrong between Ward and a TPM, one error for each cause.
var (
	// ErrAbsent: the TPM's device file or socket is not there.
	ErrAbsent = errors.New("there is no TPM")
	// ErrTransport: the device file or socket failed.
	ErrTransport = errors.New("the TPM cannot be reached")
	// ErrTimeout: the TPM did not answer in time.
	ErrTimeout = errors.New("the TPM does not answer")
	// ErrResponse: the TPM's answer is cut short or not a TPM response.
	ErrResponse = errors.New("the TPM's answer is malformed")
	// ErrTampered: an answer was changed between the TPM and the processor, or
	// comes from another TPM.
	ErrTampered = errors.New("the TPM's answer is not by the TPM that the session was made with")
	// ErrBusy: the TPM kept answering that it is busy until the bound.
	ErrBusy = errors.New("the TPM stays busy")
	// ErrExhausted: other users of the TPM hold its slots for objects or
	// sessions, and kept them until the bound.
	ErrExhausted = errors.New("the TPM's slots are taken by its other users")
	// ErrNVRate: the TPM keeps its NV memory from wearing out and wants a pause.
	ErrNVRate = errors.New("the TPM limits how often its NV memory is written")
	// ErrNVUnavailable: the NV memory cannot be written, which is how a worn-out
	// one shows.
	ErrNVUnavailable = errors.New("the TPM's NV memory cannot be written")
	// ErrNVSpace: the NV memory is full.
	ErrNVSpace = errors.New("the TPM's NV memory is full")
	// ErrLockout: the TPM's dictionary attack protection refuses.
	ErrLockout = errors.New("the TPM is in dictionary attack lockout")
	// ErrAuthorization: the TPM wants an authorisation that Ward does not have.
	ErrAuthorization = errors.New("the TPM refuses the authorisation")
	// ErrReset: the TPM was reset under way; what was loaded in it is gone.
	ErrReset = errors.New("the TPM was reset under way")
	// ErrNotStarted: the TPM had no TPM2_Startup since it was reset.
	ErrNotStarted = errors.New("the TPM was not started after its reset")
	// ErrFailure: the TPM failed its self-test or is being updated.
	ErrFailure = errors.New("the TPM is in failure or update mode")
)

// causes are the errors of response codes (Part 2, section 6.6). Codes that say
// something of one command alone are named by who sent it.
var causes = []struct {
	code  tpm2.TPMRC
	cause error
}{
	{tpm2.TPMRCLockout, ErrLockout},
	{tpm2.TPMRCAuthFail, ErrAuthorization},
	{tpm2.TPMRCBadAuth, ErrAuthorization},
	{tpm2.TPMRCAuthMissing, ErrAuthorization},
	{tpm2.TPMRCAuthUnavailable, ErrAuthorization},
	{tpm2.TPMRCAuthType, ErrAuthorization},
	{tpm2.TPMRCNVAuthorization, ErrAuthorization},
	{tpm2.TPMRCInitialize, ErrNotStarted},
	{tpm2.TPMRCReboot, ErrNotStarted},
	{tpm2.TPMRCFailure, ErrFailure},
	{tpm2.TPMRCNeedsTest, ErrFailure},
	{tpm2.TPMRCUpgrade, ErrFailure},
	{tpm2.TPMRCNVSpace, ErrNVSpace},
	{tpm2.TPMRCContextGap, ErrExhausted},
	{tpm2.TPMRCTooManyContexts, ErrExhausted},
}

// Named adds this package's name for a response code to an error.
func Named(err error) error {
	var code tpm2.TPMRC
	if !errors.As(err, &code) {
		return err
	}
	if code >= tpm2.TPMRCReferenceH0 && code <= tpm2.TPMRCReferenceS6 {
		return fmt.Errorf("%w: %w", ErrReset, err)
	}
	for _, c := range causes {
		if errors.Is(code, c.code) && !errors.Is(err, c.cause) {
			return fmt.Errorf("%w: %w", c.cause, err)
		}
	}
	return err
}

// transient says whether the same command may succeed a little later, and what
// it means if it does not (Part 2, section 6.6.3, and Part 1, section 30). A
// command that met one of these codes has changed nothing, and its sessions have
// not moved on, so the same bytes are sent again.
func transient(code tpm2.TPMRC) (bool, error) {
	switch code {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCCanceled:
		return true, ErrBusy
	case tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCMemory,
		tpm2.TPMRCObjectHandles, tpm2.TPMRCSessionHandles:
		return true, ErrExhausted
	case tpm2.TPMRCNVRate:
		return true, ErrNVRate
	case tpm2.TPMRCNVUnavailable:
		return true, ErrNVUnavailable
	}
	return false, nil
}

// ended turns a deadline that passed into ErrTimeout; a caller that gave up
// gets its own error.
func ended(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}
