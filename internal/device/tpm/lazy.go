package tpm

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"sync"

	"ward/internal/format/pcr"
	"ward/internal/trust/quote"
)

// Lazy opens the TPM when it is needed and anew after it was gone, so that a
// device whose TPM comes late, or comes back, heals without a restart.
type Lazy struct {
	path string

	mu   sync.Mutex
	open *TPM
	pin  *Key
}

// NewLazy returns a TPM that is opened at its first use.
func NewLazy(path string) *Lazy { return &Lazy{path: path} }

// Pin is TPM.Pin, now and whenever the TPM is opened anew.
func (l *Lazy) Pin(srk Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pin = &srk
	if l.open != nil {
		l.open.Pin(srk)
	}
}

// Close closes the TPM if it is open.
func (l *Lazy) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		return nil
	}
	err := l.open.Close()
	l.open = nil
	return err
}

func (l *Lazy) get() (*TPM, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != nil {
		return l.open, nil
	}
	t, err := Open(l.path)
	if err != nil {
		return nil, err
	}
	if l.pin != nil {
		t.Pin(*l.pin)
	}
	l.open = t
	return t, nil
}

// drop closes a TPM that does not answer any more.
func (l *Lazy) drop(err error) {
	if errors.Is(err, ErrTransport) || errors.Is(err, ErrAbsent) {
		_ = l.Close()
	}
}

// With does one operation with the TPM.
func With[T any](l *Lazy, operation func(*TPM) (T, error)) (T, error) {
	t, err := l.get()
	if err != nil {
		var none T
		return none, err
	}
	v, err := operation(t)
	l.drop(err)
	return v, err
}

// ReadPCRs is TPM.ReadPCRs.
func (l *Lazy) ReadPCRs(ctx context.Context, bank pcr.Algorithm, which []int) (pcr.Values, error) {
	return With(l, func(t *TPM) (pcr.Values, error) { return t.ReadPCRs(ctx, bank, which) })
}

// Maker is TPM.Maker.
func (l *Lazy) Maker(ctx context.Context) (Maker, error) {
	return With(l, func(t *TPM) (Maker, error) { return t.Maker(ctx) })
}

// AttestationKey reads the public part of the attestation key. No key there
// gives ErrNoKey.
func (l *Lazy) AttestationKey(ctx context.Context) (*ecdsa.PublicKey, error) {
	return With(l, func(t *TPM) (*ecdsa.PublicKey, error) {
		key, err := t.ReadPublic(ctx, HandleAK)
		return key.Public, err
	})
}

// Quote is TPM.Quote.
func (l *Lazy) Quote(ctx context.Context, qualifying [32]byte, bank pcr.Algorithm, registers []int) (quote.Quote, pcr.Values, error) {
	type answer struct {
		quote  quote.Quote
		values pcr.Values
	}
	a, err := With(l, func(t *TPM) (answer, error) {
		q, v, err := t.Quote(ctx, qualifying, bank, registers)
		return answer{q, v}, err
	})
	return a.quote, a.values, err
}
