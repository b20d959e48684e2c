package link

import (
	"context"
	"errors"
	"fmt"
)

// Do does one operation with the TPM to itself. When ctx or the bound of 30 s
// ends first, Do returns and the operation ends in the background as soon as
// the TPM answers; until then the TPM is not given to anybody else, and those
// who wait get ErrTimeout at their own deadlines.
func Do[T any](ctx context.Context, l *Link, what string, operation func(*Channel) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	ctx, cancel := context.WithTimeout(ctx, l.bound)
	defer cancel()
	select {
	case l.slot <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", what, ended(ctx.Err()))
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-l.slot }()
		var r result
		c := &Channel{link: l, ctx: ctx}
		r.err = c.guarded(func() (err error) {
			r.value, err = operation(c)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return none, fmt.Errorf("%s: %w", what, Named(r.err))
		}
		return r.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", what, ended(ctx.Err()))
	}
}

// guarded runs the operation and cleans up behind it. go-tpm reads responses by
// reflection; whatever a broken TPM sends must not end the daemon. After an
// answer that was changed on its way, and after a reset, the transport is opened
// anew: the kernel then flushes what was loaded under handles that were never learnt.
func (c *Channel) guarded(operation func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrResponse, p)
		}
		c.clean()
		if errors.Is(err, ErrTampered) || errors.Is(err, ErrReset) {
			c.link.renew()
		}
	}()
	return operation()
}
