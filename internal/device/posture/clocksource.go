package posture

import (
	"io/fs"

	"ward/internal/trust/posture"
)

// clockSource says which counter the kernel keeps time by ("tsc"); it changes when
// the kernel no longer trusts one
// (Documentation/ABI/testing/sysfs-devices-system-clocksource is its folder).
func clockSource(root fs.FS) posture.Claim {
	text, err := state(root, "sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err != nil {
		return Missing(posture.ClockSource, err)
	}
	return Value(posture.ClockSource, text)
}
