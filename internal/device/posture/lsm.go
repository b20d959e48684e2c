package posture

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"ward/internal/trust/posture"
)

// securityModules says which security modules the kernel has started
// (Documentation/admin-guide/LSM/index.rst). Their order is not kept.
func securityModules(root fs.FS) posture.Claim {
	text, err := state(root, "sys/kernel/security/lsm")
	if err != nil {
		return Missing(posture.LSM, err)
	}
	names := strings.Split(text, ",")
	if slices.Contains(names, "") {
		return Failed(posture.LSM, fmt.Errorf("parse list of security modules %.60q", text))
	}
	return Value(posture.LSM, names...)
}

// selinux says "enforcing" or "permissive", and "unknown-denied" or
// "unknown-allowed" of what the policy does not know.
func selinux(root fs.FS) posture.Claim {
	return switches(root, posture.SELinux, []flag{
		{"sys/fs/selinux/enforce", "enforcing", "permissive"},
		{"sys/fs/selinux/deny_unknown", "unknown-denied", "unknown-allowed"},
	})
}

// flag is a file of one character with a word for on (1, Y) and one for off (0, N).
type flag struct{ file, on, off string }

// switches is the claim of several such files. Without the first there is no such
// thing.
func switches(root fs.FS, name string, flags []flag) posture.Claim {
	var values []string
	for i, f := range flags {
		text, err := word(root, f.file)
		switch {
		case err != nil && i == 0:
			return Missing(name, err)
		case err != nil:
			return Failed(name, err)
		case text == "1" || text == "Y":
			values = append(values, f.on)
		case text == "0" || text == "N":
			values = append(values, f.off)
		default:
			return Failed(name, fmt.Errorf("parse /%s: %.20q, want 0 or 1", f.file, text))
		}
	}
	return Value(name, values...)
}

// appArmor says "enabled" or "disabled", the mode of all ("mode enforce"), and every
// profile with its own: "profile NAME enforce" (apparmor(7)).
func appArmor(root fs.FS) posture.Claim {
	c := switches(root, posture.AppArmor, []flag{{"sys/module/apparmor/parameters/enabled", "enabled", "disabled"}})
	if len(c.Values) == 0 || c.Values[0] == "disabled" {
		return c
	}
	mode, err := word(root, "sys/module/apparmor/parameters/mode")
	if err != nil {
		return Failed(posture.AppArmor, err)
	}
	b, err := ReadFile(root, "sys/kernel/security/apparmor/profiles", listFile)
	if err != nil {
		return Failed(posture.AppArmor, err)
	}
	values := []string{"enabled", "mode " + mode}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		at := strings.LastIndex(line, " (")
		if at < 1 || !strings.HasSuffix(line, ")") {
			return Failed(posture.AppArmor, fmt.Errorf("parse profiles: line %.60q", line))
		}
		values = append(values, "profile "+line[:at]+" "+line[at+2:len(line)-1])
	}
	return Value(posture.AppArmor, values...)
}
