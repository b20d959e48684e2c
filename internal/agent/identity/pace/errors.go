package pace

import (
	"errors"
	"net/http"

	"ward/internal/device/tpm"
)

// Decision says whether a status is a decision, and not a moment's trouble.
func Decision(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false // 401: the challenge has expired
	}
	return status >= 300 && status < 500
}

// OfTPM says whether an error is the TPM's own trouble.
func OfTPM(err error) bool {
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
