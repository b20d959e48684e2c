package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"

	"ward/internal/agent/identity/board"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/finding"
)

var (
	// ErrNone: there is no certificate for this use.
	ErrNone = errors.New("there is no certificate")
	// ErrBusy: too many ask at once.
	ErrBusy = errors.New("others are asking already: try again")
	// ErrNotReady: the role cannot enrol as things stand; the findings say why.
	ErrNotReady = errors.New("the identity cannot be enrolled")
)

// TLS waits until the identity is usable and returns what a connection to the
// fleet needs; the caller adds the server's name. While a new certificate has not
// connected yet, it and the last one that has are given in turn as the fleet
// refuses them. The error is ctx's, joined with the fault that stands in the way.
func (r *Role) TLS(ctx context.Context) (*tls.Config, error) {
	for {
		r.mu.Lock()
		var config *tls.Config
		if len(r.current) > 0 {
			config = r.current[r.turn].tls.Clone()
		}
		fault, changed := r.fault, r.changed
		r.mu.Unlock()
		if config != nil {
			return config, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if fault != nil {
				return nil, errors.Join(ctx.Err(), fault)
			}
			return nil, ctx.Err()
		}
	}
}

// Outcome takes how a connection with what TLS gave went: the fleet admitted the
// device, or refused it. It does not wait.
func (r *Role) Outcome(used *tls.Config, admitted bool) {
	if used == nil || len(used.Certificates) == 0 || len(used.Certificates[0].Certificate) == 0 {
		return
	}
	raw := used.Certificates[0].Certificate[0]
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, u := range r.current {
		if !bytes.Equal(u.leaf().Raw, raw) {
			continue
		}
		switch {
		case admitted && !u.Connected:
			r.admitted, r.refused = append(r.admitted, raw), 0
			r.rouse()
		case admitted:
			r.turn = 0 // the newest again at the next connection
		case i == r.turn:
			r.turn = (r.turn + 1) % len(r.current)
			if i == 0 && len(r.current) > 1 {
				r.refused++
				r.rouse()
			}
		}
		return
	}
}

// Outdated says that a connection with what TLS gave should be made anew: there is
// a newer certificate, and the fleet has not refused it.
func (r *Role) Outdated(used *tls.Config) bool {
	if used == nil || len(used.Certificates) == 0 || len(used.Certificates[0].Certificate) == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.current) > 0 && r.turn == 0 && r.refused == 0 && !bytes.Equal(r.current[0].leaf().Raw, used.Certificates[0].Certificate[0])
}

// lookAtRefusals says when the fleet refuses the new certificate while the old
// one works.
func (r *Role) lookAtRefusals(ctx context.Context) {
	r.mu.Lock()
	refused := r.refused
	r.mu.Unlock()
	if refused >= patience && len(r.reporting) > 0 {
		r.board.Raise(ctx, board.AboutEnrolment, finding.IdentityRenewal,
			"the fleet refused the new certificate of generation %d %d times; the old one is used beside it", r.reporting[0].Number, refused)
	} else if r.board.Holds(board.AboutEnrolment) == finding.IdentityRenewal && r.needs(enrolment.Reporting) == nothing {
		r.board.Clear(ctx, board.AboutEnrolment)
	}
}

// Sign signs a SHA-256 digest with the key of a use, in ASN.1 (RFC 3279, section
// 2.2.3). Errors are device/tpm's, or ErrNone.
func (r *Role) Sign(use enrolment.Use, digest [32]byte) ([]byte, error) {
	u, err := r.of(use)
	if err != nil {
		return nil, err
	}
	return u.signer.Sign(nil, digest[:], sha256Options)
}

// Chain is the certificate of a use with those above it, in PEM, leaf first.
func (r *Role) Chain(use enrolment.Use) ([]byte, error) {
	u, err := r.of(use)
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, c := range u.Chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text, nil
}

func (r *Role) of(use enrolment.Use) (usable, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := r.signing[use]
	if !ok {
		for _, s := range r.status.Uses {
			if s.Use == use && s.Pending != "" {
				return u, fmt.Errorf("%w for %q: %s", ErrNone, use, s.Pending)
			}
		}
		return u, fmt.Errorf("%w for %q", ErrNone, use)
	}
	return u, nil
}

// ask is what somebody on the device wants done now.
type ask struct {
	kind need
	done chan error
}

// Enroll has both keys enrolled anew at once, whatever pauses there are; the old
// ones are kept until the new have connected.
func (r *Role) Enroll(ctx context.Context) error { return r.ask(ctx, enrol) }

// Renew has both certificates renewed at once, with new keys.
func (r *Role) Renew(ctx context.Context) error { return r.ask(ctx, renew) }

func (r *Role) ask(ctx context.Context, kind need) error {
	a := ask{kind, make(chan error, 1)}
	select {
	case r.asks <- a:
	default:
		return ErrBusy
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve does what was asked for. A fault that is there is no hindrance to enrol.
func (r *Role) serve(ctx context.Context, a ask) error {
	_ = r.look(ctx) // its fault is on the board
	switch {
	case r.config.Registrar == "":
		return ErrNoRegistrar
	case !r.ready || r.serialDiffers():
		return fmt.Errorf("%w: see the findings about the identity", ErrNotReady)
	case a.kind == renew && len(r.reporting) == 0:
		return fmt.Errorf("%w to renew: enrol the device", ErrNone)
	}
	err := r.attempt(ctx, enrolment.Reporting, a.kind)
	if look := r.look(ctx); err == nil && look == nil {
		err = r.attempt(ctx, enrolment.Service, a.kind)
		if errors.Is(err, ErrNoPolicy) {
			err = nil // a device without a policy key has no service identity
		}
		_ = r.look(ctx)
	}
	r.upkeepAfter(ctx, err)
	return err
}

func (r *Role) upkeepAfter(ctx context.Context, err error) {
	if err == nil && len(r.reporting) > 0 && r.upkeep(ctx) {
		_ = r.look(ctx)
	}
}
