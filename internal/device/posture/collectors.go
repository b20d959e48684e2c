package posture

import (
	"io/fs"

	"ward/internal/trust/posture"
)

// Kernel are the collectors of the kernel, the boot and the hardware. The TPM's
// are apart: who has the TPM gives them what it says (TPM).
func Kernel() []Collector {
	all := make([]Collector, 0, len(kernel))
	for _, k := range kernel {
		all = append(all, claim(k.name, k.read))
	}
	return all
}

var kernel = [...]struct {
	name string
	read values
}{
	{posture.SecureBoot, secureBoot},
	{posture.Lockdown, lockdown},
	{posture.KernelRelease, release},
	{posture.CommandLine, commandLine},
	{posture.Modules, modules},
	{posture.UnsignedModules, unsignedModules},
	{posture.ModuleSignature, moduleSignature},
	{posture.Taint, taint},
	{posture.Kexec, kexec},
	{posture.LSM, securityModules},
	{posture.IMA, imaState},
	{posture.EVM, evmState},
	{posture.SELinux, selinux},
	{posture.AppArmor, appArmor},
	{posture.Sysctl, sysctls},
	{posture.KernelDebug, kernelDebug},
	{posture.CPU, vulnerabilities},
	{posture.ClockSource, clockSource},
}

// clockSource says which counter the kernel keeps time by ("tsc"); it changes when
// the kernel no longer trusts one
// (Documentation/ABI/testing/sysfs-devices-system-clocksource).
func clockSource(root fs.FS) ([]string, error) {
	s, err := state(root, "sys/devices/system/clocksource/clocksource0/current_clocksource")
	return []string{s}, err
}
