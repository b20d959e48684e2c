package posture

import "io/fs"

// efivars is where the kernel shows the firmware's variables; the GUID is that of
// EFI_GLOBAL_VARIABLE (UEFI, section 3.3).
const (
	efiFolder = "sys/firmware/efi"
	efivars   = efiFolder + "/efivars/"
	efiGlobal = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// efiFlags are the variables of one byte with their words. Firmware before UEFI 2.5
// does not have the last two.
var efiFlags = [...]flag{
	{"SecureBoot", "enabled", "disabled"}, {"SetupMode", "setup-mode", ""}, {"AuditMode", "audit-mode", ""}, {"DeployedMode", "deployed-mode", ""},
}

// secureBoot says "enabled" or "disabled" of Secure Boot, and of the modes that are
// on: "setup-mode" (anybody may enrol keys), "audit-mode", "deployed-mode", else
// "user-mode" (UEFI, section 32.3). It is what the firmware said when it started
// the system; the event log, which a quote covers, says it too.
func secureBoot(root fs.FS) ([]string, error) {
	if _, err := fs.Stat(root, efiFolder); err != nil {
		return nil, err
	}
	var words []string
	for i, f := range efiFlags {
		name := efivars + f.file + efiGlobal
		// four bytes of attributes, then the value (Documentation/filesystems/efivarfs.rst)
		b, err := ReadFile(root, name, 64)
		switch {
		case err != nil && i > 1 && absent(err):
			continue
		case err != nil:
			return nil, needed(err)
		case len(b) != 5 || b[4] > 1:
			return nil, bad(name, string(b))
		case b[4] == 1:
			words = append(words, f.on)
		case f.off != "":
			words = append(words, f.off)
		}
	}
	if len(words) == 1 {
		words = append(words, "user-mode")
	}
	return words, nil
}
