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
	// An operation that was given up writes to a value that nobody reads any more.
	value := new(T)
	err := l.do(ctx, what, func(c *Channel) (err error) {
		*value, err = operation(c)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return *value, nil
}

// do is Do without the value: one piece of code for all kinds of them.
func (l *Link) do(ctx context.Context, what string, operation func(*Channel) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.bound)
	defer cancel()
	select {
	case l.slot <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ended(ctx.Err()))
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-l.slot }()
		c := &Channel{link: l, ctx: ctx}
		done <- c.guarded(func() error { return operation(c) })
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, Named(err))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ended(ctx.Err()))
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
