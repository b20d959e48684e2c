package posture

import (
	"fmt"
	"io/fs"

	"ward/internal/trust/posture"
)

// efivars is where the kernel shows the firmware's variables; the GUID is that of
// EFI_GLOBAL_VARIABLE (UEFI, section 3.3).
const (
	efiFolder = "sys/firmware/efi"
	efivars   = efiFolder + "/efivars/"
	efiGlobal = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// secureBoot says "enabled" or "disabled" of Secure Boot, and of the modes that are
// on: "setup-mode" (anybody may enrol keys), "audit-mode", "deployed-mode", else
// "user-mode" (UEFI, section 32.3). It is what the firmware said when it started
// the system; the event log, which a quote covers, says it too.
func secureBoot(root fs.FS) posture.Claim {
	if _, err := fs.Stat(root, efiFolder); err != nil {
		return Missing(posture.SecureBoot, err)
	}
	on, err := efiBool(root, "SecureBoot")
	if err != nil {
		return Failed(posture.SecureBoot, err)
	}
	values := []string{"disabled"}
	if on {
		values[0] = "enabled"
	}
	setup, err := efiBool(root, "SetupMode")
	if err != nil {
		return Failed(posture.SecureBoot, err)
	}
	if setup {
		values = append(values, "setup-mode")
	}
	for _, m := range [...]struct{ variable, word string }{{"AuditMode", "audit-mode"}, {"DeployedMode", "deployed-mode"}} {
		// Firmware before UEFI 2.5 has neither.
		switch is, err := efiBool(root, m.variable); {
		case err == nil && is:
			values = append(values, m.word)
		case err != nil && !Missing("", err).Absent:
			return Failed(posture.SecureBoot, err)
		}
	}
	if len(values) == 1 {
		values = append(values, "user-mode")
	}
	return Value(posture.SecureBoot, values...)
}

// efiBool reads a variable of one byte: four bytes of attributes stand before it
// (Documentation/filesystems/efivarfs.rst).
func efiBool(root fs.FS, name string) (bool, error) {
	b, err := ReadFile(root, efivars+name+efiGlobal, 64)
	if err != nil {
		return false, err
	}
	if len(b) != 5 || b[4] > 1 {
		return false, fmt.Errorf("parse variable %s: %d bytes, want 4 of attributes and 0 or 1", name, len(b))
	}
	return b[4] == 1, nil
}
