package posture

import "io/fs"

const (
	vulnerabilityFolder = "sys/devices/system/cpu/vulnerabilities"
	// maxVulnerabilities bounds the folder; Linux 6.18 has 19 files.
	maxVulnerabilities = 128
)

// vulnerabilities says the state of every weakness of the processor that the kernel
// knows: "meltdown: Mitigation: PTI"
// (Documentation/ABI/testing/sysfs-devices-system-cpu).
func vulnerabilities(root fs.FS) (all []string, err error) {
	entries, err := fs.ReadDir(root, vulnerabilityFolder)
	for _, e := range entries[:min(len(entries), maxVulnerabilities)] {
		text, err := word(root, vulnerabilityFolder+"/"+e.Name())
		if err != nil {
			return nil, needed(err)
		}
		all = append(all, e.Name()+": "+text)
	}
	return all, err
}
