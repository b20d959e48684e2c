package system

import (
	"io/fs"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// ClockSync tells whether the clock follows a time server: systemd-timesyncd writes
// a file when it has heard one ("timesyncd synchronised", "timesyncd waiting"); of
// chrony and ntpd only that they run ("chronyd unknown"): they tell the rest through
// sockets alone. "unknown" where none of them is there.
func ClockSync() posture.Collector {
	return collector(claim.ClockSync, func(root fs.FS) ([]string, error) {
		var values []string
		for _, s := range []struct{ file, otherwise, value string }{
			{"run/systemd/timesync", "", ""},
			{"run/systemd/timesync/synchronized", "run/systemd/timesync", "timesyncd synchronised"},
			{"run/chrony/chronyd.pid", "", "chronyd unknown"}, {"run/chronyd.pid", "", "chronyd unknown"},
			{"run/ntpd.pid", "", "ntpd unknown"}, {"run/ntpsec/ntpd.pid", "", "ntpd unknown"},
		} {
			_, err := fs.Stat(root, s.file)
			switch {
			case err == nil && s.value != "":
				values = append(values, s.value)
			case err != nil && !bounded.Absent(err):
				return nil, err
			case err != nil && s.otherwise != "":
				if _, err := fs.Stat(root, s.otherwise); err == nil {
					values = append(values, "timesyncd waiting")
				}
			}
		}
		if len(values) == 0 {
			values = []string{"unknown"}
		}
		return values, nil
	})
}
