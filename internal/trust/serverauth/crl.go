package serverauth

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// MaxCRL bounds a revocation list, in bytes: some 20,000 entries.
const MaxCRL = 1 << 20

var (
	// ErrCRLFormat: not a revocation list.
	ErrCRLFormat = errors.New("not a revocation list")
	// ErrCRLOlder: the list is older than the one that is known.
	ErrCRLOlder = errors.New("the revocation list is older than the one that is known")
)

// ParseCRL reads a revocation list in DER and finds the authority that signed
// it among those given (RFC 5280, section 5). A list that none of them signed
// gives ErrCRLSignature.
func ParseCRL(der []byte, issuers []*x509.Certificate) (*x509.RevocationList, error) {
	if len(der) > MaxCRL {
		return nil, fmt.Errorf("parse revocation list: %w: %d bytes, at most %d", ErrCRLFormat, len(der), MaxCRL)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("parse revocation list: %w: %w", ErrCRLFormat, err)
	}
	for _, c := range issuers {
		if bytes.Equal(c.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(c) == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("parse revocation list of %s: %w", list.Issuer, ErrCRLSignature)
}

// Newer refuses a list that is older than the one that is known of the same
// authority, by its number (RFC 5280, section 5.2.3) or its date: somebody plays
// back what was valid before.
func Newer(list, known *x509.RevocationList) error {
	if known == nil || !bytes.Equal(list.RawIssuer, known.RawIssuer) {
		return nil
	}
	older := list.ThisUpdate.Before(known.ThisUpdate)
	if list.Number != nil && known.Number != nil {
		older = list.Number.Cmp(known.Number) < 0
	}
	if older {
		return fmt.Errorf("%w: of %s, known is %s", ErrCRLOlder, list.ThisUpdate.UTC().Format(time.RFC3339), known.ThisUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// Stale says that a list is past its next update.
func Stale(list *x509.RevocationList, now time.Time) error {
	if list.NextUpdate.IsZero() || !now.After(list.NextUpdate) {
		return nil
	}
	return fmt.Errorf("%w: its next update was due on %s", ErrCRLStale, list.NextUpdate.UTC().Format(time.RFC3339))
}
