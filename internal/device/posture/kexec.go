package posture

import (
	"fmt"
	"io/fs"

	"ward/internal/trust/posture"
)

// kexec says whether another kernel waits to be started without the firmware:
// "image-loaded", "crash-image-loaded", and "load-disabled" or "load-possible"
// (kexec_load(2); Documentation/ABI/testing/sysfs-kernel-kexec).
func kexec(root fs.FS) posture.Claim {
	var values []string
	for _, f := range [...]struct{ file, one, zero string }{
		{"sys/kernel/kexec_loaded", "image-loaded", ""},
		{"sys/kernel/kexec_crash_loaded", "crash-image-loaded", ""},
		{"proc/sys/kernel/kexec_load_disabled", "load-disabled", "load-possible"},
	} {
		text, err := word(root, f.file)
		switch {
		case err != nil && f.zero == "" && Missing("", err).Absent:
			// each is left out of a kernel that has the other alone; the third decides
		case err != nil:
			return Missing(posture.Kexec, err)
		case text == "1":
			values = append(values, f.one)
		case text == "0":
			values = append(values, f.zero)
		default:
			return Failed(posture.Kexec, fmt.Errorf("parse /%s: %.20q, want 0 or 1", f.file, text))
		}
	}
	return Value(posture.Kexec, values...)
}
