package provision

import (
	"context"
	"crypto"
	"errors"

	"ward/internal/agent/identity/idstore"
	"ward/internal/device/tpm"
)

// errNoApprovals: what is bound to the boot state needs the release's approvals.
var errNoApprovals = errors.New("it works only in an approved boot state, and no approvals of a release are there")

// signer signs with a key of the store; boot is for one that is bound to the boot
// state, and may be nil.
func signer(ctx context.Context, chip *tpm.TPM, g idstore.Generation, boot *tpm.Boot) (crypto.Signer, error) {
	bound, err := PolicyOf(g.Key)
	if err != nil {
		return nil, err
	}
	switch {
	case bound == nil:
		return chip.BlobSigner(ctx, blobOf(g.Key), nil, signTimeout)
	case boot == nil:
		return nil, errNoApprovals
	}
	return chip.BlobSigner(ctx, blobOf(g.Key), func() tpm.Boot { return *boot }, signTimeout)
}

// Signer signs with a key of the store, with the TPM fixed to the one of
// manufacture. boot is for a key that is bound to the boot state, and may be nil.
func Signer(ctx context.Context, chip *tpm.TPM, d idstore.Device, g idstore.Generation, boot *tpm.Boot) (crypto.Signer, error) {
	if err := pin(chip, d); err != nil {
		return nil, err
	}
	return signer(ctx, chip, g, boot)
}
