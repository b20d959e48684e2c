package posture

import "ward/internal/trust/posture"

// Kernel are the collectors of the kernel, the boot and the hardware. The TPM's
// are apart: who has the TPM gives them what it says (TPM).
func Kernel() []Collector {
	return []Collector{
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
}
