package posture

import (
	"io/fs"

	"ward/internal/trust/posture"
)

const (
	vulnerabilityFolder = "sys/devices/system/cpu/vulnerabilities"
	// maxVulnerabilities bounds the folder; Linux 6.18 has 19 files.
	maxVulnerabilities = 128
)

// vulnerabilities says the state of every weakness of the processor that the kernel
// knows: "meltdown: Mitigation: PTI"
// (Documentation/ABI/testing/sysfs-devices-system-cpu).
func vulnerabilities(root fs.FS) posture.Claim {
	entries, err := fs.ReadDir(root, vulnerabilityFolder)
	if err != nil {
		return Missing(posture.CPU, err)
	}
	var values []string
	for _, e := range entries[:min(len(entries), maxVulnerabilities)] {
		text, err := word(root, vulnerabilityFolder+"/"+e.Name())
		if err != nil {
			return Failed(posture.CPU, err)
		}
		values = append(values, e.Name()+": "+text)
	}
	return Value(posture.CPU, values...)
}
