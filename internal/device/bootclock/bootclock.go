// Package bootclock tells which boot this is and how long it lasts: the
// kernel's random boot id (random(4)) and CLOCK_BOOTTIME (clock_gettime(2)),
// which goes on during suspend and which nobody can set. Order never rests on
// the wall clock.
package bootclock

import (
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since the kernel started.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // every kernel that Ward runs on has this clock
	}
	return time.Duration(t.Nano())
}

// ID is the id of this boot. proc is the proc file system.
func ID(proc fs.FS) (string, error) {
	b, err := fs.ReadFile(proc, "sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if len(id) != 36 {
		return "", fmt.Errorf("read boot id: %d characters, want 36", len(id))
	}
	return id, nil
}
