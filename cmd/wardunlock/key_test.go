package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/trust/volume"
)

// A TPM that hangs in the kernel does not hold up the boot.
//
// Verifies: SR-041
func TestHangingTPMEndsWithinTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		key, err := bounded(func(context.Context) ([]byte, error) {
			time.Sleep(time.Hour) // it does not look at its context
			return []byte("too late"), nil
		})
		var r *refusal
		if !errors.As(err, &r) || r.cause != volume.Failing || r.status() != 3 || key != nil {
			t.Errorf("key %q, error %v", key, err)
		}
		if took := time.Since(begun); took > limit+time.Second {
			t.Errorf("it took %s", took)
		}
		time.Sleep(time.Hour) // the bubble's goroutine ends
	})
}
