package posture

import (
	"io/fs"
	"slices"
	"strings"
)

// securityModules says which security modules the kernel has started
// (Documentation/admin-guide/LSM/index.rst). Their order is not kept.
func securityModules(root fs.FS) ([]string, error) {
	const file = "sys/kernel/security/lsm"
	text, err := word(root, file)
	names := strings.Split(text, ",")
	if err == nil && slices.Contains(names, "") {
		err = bad(file, text)
	}
	return names, err
}

// selinux says "enforcing" or "permissive", and "unknown-denied" or
// "unknown-allowed" of what the policy does not know.
func selinux(root fs.FS) ([]string, error) {
	mode := flag{"sys/fs/selinux/enforce", "enforcing", "permissive"}
	rest := flag{"sys/fs/selinux/deny_unknown", "unknown-denied", "unknown-allowed"}
	is, err := mode.word(root)
	if err != nil {
		return nil, err
	}
	unknown, err := rest.word(root)
	return []string{is, unknown}, needed(err)
}

// appArmor says "enabled" or "disabled", the mode of all ("mode enforce"), and every
// profile with its own: "profile NAME enforce" (apparmor(7)).
func appArmor(root fs.FS) ([]string, error) {
	const list = "sys/kernel/security/apparmor/profiles"
	on := flag{"sys/module/apparmor/parameters/enabled", "enabled", "disabled"}
	is, err := on.word(root)
	if err != nil || is == on.off {
		return []string{is}, err
	}
	mode, err := state(root, "sys/module/apparmor/parameters/mode")
	if err != nil {
		return nil, needed(err)
	}
	b, err := ReadFile(root, list, listFile)
	out := []string{is, "mode " + mode}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		at := strings.LastIndex(line, " (")
		if at < 1 || !strings.HasSuffix(line, ")") {
			return nil, bad(list, line)
		}
		out = append(out, "profile "+line[:at]+" "+line[at+2:len(line)-1])
	}
	return out, needed(err)
}
