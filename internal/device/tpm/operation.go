package tpm

import (
	"context"

	"ward/internal/device/tpm/link"
)

// Transport carries commands to one TPM and its responses back.
type Transport = link.Transport

// channel is the TPM as one operation sees it.
type channel = link.Channel

// TPM is one TPM. It is safe for concurrent use; operations have it one after
// the other.
type TPM struct{ link *link.Link }

// Open opens a TPM's device file ("/dev/tpmrm0") or the UNIX socket of a
// software TPM. A path where there is nothing gives ErrAbsent.
func Open(path string) (*TPM, error) {
	l, err := link.Open(path)
	if err != nil {
		return nil, err
	}
	return &TPM{link: l}, nil
}

// New makes a TPM of a transport. It is opened at the first command, and anew
// after it has failed.
func New(open func() (Transport, error)) *TPM { return &TPM{link: link.New(open)} }

// Close closes the transport, also under a command that hangs.
func (t *TPM) Close() error { return t.link.Close() }

// run does one operation with the TPM to itself.
func run[T any](ctx context.Context, t *TPM, what string, operation func(*channel) (T, error)) (T, error) {
	return link.Do(ctx, t.link, what, operation)
}
