package register

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"ward/internal/fleet/files"
)

const (
	// crlFile is the last revocation list, DER, so that its number grows over
	// restarts.
	crlFile = "crl.der"
	// MaxCRL bounds it, in bytes: some four hundred thousand entries.
	MaxCRL = 16 << 20
)

// CRL gives list the last revocation list, nil when there is none, and keeps what
// it returns as the next: no two processes make one at once.
func (r *Register) CRL(list func(last []byte) ([]byte, error)) error {
	return r.change(func() error {
		file := filepath.Join(r.dir, crlFile)
		last, err := files.Read(file, MaxCRL)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read revocation list: %w", err)
		}
		next, err := list(last)
		if err != nil {
			return err
		}
		if len(next) > MaxCRL {
			return fmt.Errorf("write revocation list: %d bytes, at most %d", len(next), MaxCRL)
		}
		if err := files.Replace(file, next); err != nil {
			return fmt.Errorf("write revocation list: %w", err)
		}
		return nil
	})
}

// Revision changes when a certificate may have been revoked.
func (r *Register) Revision(now time.Time) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.read(), r.readIssued(now)); err != nil {
		return 0, err
	}
	return uint64(r.acts.lines) + r.late, nil
}
