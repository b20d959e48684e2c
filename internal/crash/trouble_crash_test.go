//go:build crash

package crash

import (
	"testing"
	"time"
)

// Verifies: SR-074
func TestCrashHaltedDaemonGoesOn(t *testing.T) {
	t.Run("for a moment", func(t *testing.T) { halt(t, 10, 2*time.Second) })
	// Long enough for the broker to give it up, after one and a half keepalives.
	t.Run("until the broker gives it up", func(t *testing.T) { halt(t, 2, 50*time.Second) })
}

// Verifies: SR-073
func TestCrashStopUnderLoadLosesNothing(t *testing.T) { end(t, 20) }

// Verifies: SR-074
func TestCrashFullDiskThatHeals(t *testing.T) { failing(t, 5, fill, empty) }

// Verifies: SR-074
func TestCrashReadOnlyStateThatHeals(t *testing.T) { readOnly(t, 5) }
