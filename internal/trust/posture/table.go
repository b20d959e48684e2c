package posture

import (
	"slices"

	"ward/internal/trust/finding"
)

// Definition is what is known of a claim: how it is judged and told. What it says
// in words stands in docs/posture.md.
type Definition struct {
	Name    string
	Code    finding.Code // of values that the release does not have
	Missing finding.Code // of values that the release has and the device lacks; empty: Code
	Paths   bool         // its values hold paths, which may name what is not of the release

	// Mode and Expect are the default judgement, where the release has no rule for
	// the claim; without a mode it is recorded. A device may lack the thing.
	Mode   Mode
	Expect []string
}

// Lookup returns the definition of a claim.
func Lookup(name string) (*Definition, bool) {
	if i := slices.IndexFunc(table, func(d Definition) bool { return d.Name == name }); i >= 0 {
		return &table[i], true
	}
	return nil, false
}

// Definitions lists all claims that are known, in the order of the table.
func Definitions() []Definition { return slices.Clone(table) }

// DefaultRules are the rules that hold where the release has none of its own. A
// release that says "recorded" about a claim switches its default off.
func DefaultRules() []Rule {
	var all []Rule
	for i := range table {
		if r := table[i].rule(); r != nil {
			all = append(all, *r)
		}
	}
	return all
}

// rule is the default judgement, nil where there is none.
func (d *Definition) rule() *Rule {
	if d.Mode == "" {
		return nil
	}
	return &Rule{Claim: d.Name, Mode: d.Mode, Values: d.Expect, Optional: true}
}

// table has one row for each claim that a collector can make. The first part is
// of the kernel, the boot and the hardware (device/posture), the second of the
// running system (device/posture/system).
var table = []Definition{
	{Name: SecureBoot, Code: finding.PostureSecureBoot},
	{Name: Lockdown, Code: finding.PostureLockdown},
	{Name: KernelRelease, Code: finding.PostureKernelVersion},
	{Name: CommandLine, Code: finding.PostureKernelWeakened, Paths: true},
	{Name: Modules, Code: finding.PostureModuleUnknown, Missing: finding.PostureModuleMissing},
	{Name: UnsignedModules, Code: finding.PostureModuleUnsigned, Mode: Equal},
	{Name: ModuleSignature, Code: finding.PostureModuleUnsigned},
	{Name: Taint, Code: finding.PostureKernelTainted, Mode: Within, Expect: harmlessTaints},
	{Name: Kexec, Code: finding.PostureKernelWeakened},
	{Name: LSM, Code: finding.PostureKernelWeakened},
	{Name: IMA, Code: finding.PostureKernelWeakened},
	{Name: EVM, Code: finding.PostureKernelWeakened},
	{Name: SELinux, Code: finding.PostureKernelWeakened},
	{Name: AppArmor, Code: finding.PostureKernelWeakened, Paths: true},
	{Name: Sysctl, Code: finding.PostureSysctl, Paths: true},
	{Name: KernelDebug, Code: finding.PostureDebug},
	{Name: CPU, Code: finding.PostureCPU},
	{Name: TPMFirmware, Code: finding.PostureDiffers},
	{Name: TPMWeakness, Code: finding.PostureTPMWeak, Mode: Equal},
	{Name: ClockSource, Code: finding.PostureClock},

	{Name: Mounts, Code: finding.PostureMount, Paths: true},
	{Name: DMVerity, Code: finding.PostureVerity, Paths: true},
	{Name: FSVerity, Code: finding.PostureVerity, Paths: true},
	{Name: Encrypted, Code: finding.PostureEncryption, Paths: true},
	{Name: Setuid, Code: finding.PostureSetuid, Paths: true},
	{Name: WorldWritable, Code: finding.PostureSetuid, Paths: true, Mode: Equal},
	{Name: Sockets, Code: finding.PostureSocket, Paths: true},
	{Name: Logins, Code: finding.PostureAccount, Paths: true},
	{Name: EmptyPasswords, Code: finding.PostureAccount, Mode: Equal},
	{Name: AuthorisedKeys, Code: finding.PostureAccount, Paths: true},
	{Name: Cron, Code: finding.PostureScheduled, Paths: true},
	{Name: Units, Code: finding.PostureScheduled, Paths: true},
	{Name: HardwareDebug, Code: finding.PostureDebug, Paths: true},
	{Name: Consoles, Code: finding.PostureDebug, Paths: true},
	{Name: ClockSync, Code: finding.PostureClock},
	{Name: DiskWear, Code: finding.PostureWear},
	{Name: BlockDevices, Code: finding.PostureMount},
}

// Names of the claims.
const (
	SecureBoot      = "boot.secure-boot"
	Lockdown        = "kernel.lockdown"
	KernelRelease   = "kernel.release"
	CommandLine     = "kernel.command-line"
	Modules         = "kernel.modules"
	UnsignedModules = "kernel.unsigned-modules"
	ModuleSignature = "kernel.module-signature"
	Taint           = "kernel.taint"
	Kexec           = "kernel.kexec"
	LSM             = "kernel.lsm"
	IMA             = "kernel.ima"
	EVM             = "kernel.evm"
	SELinux         = "kernel.selinux"
	AppArmor        = "kernel.apparmor"
	Sysctl          = "kernel.sysctl"
	KernelDebug     = "kernel.debug"
	CPU             = "cpu.vulnerabilities"
	TPMFirmware     = "tpm.firmware"
	TPMWeakness     = "tpm.weakness"
	ClockSource     = "clock.source"

	Mounts         = "fs.mounts"
	DMVerity       = "fs.dm-verity"
	FSVerity       = "fs.fs-verity"
	Encrypted      = "fs.encrypted"
	Setuid         = "fs.setuid"
	WorldWritable  = "fs.world-writable"
	Sockets        = "net.listening"
	Logins         = "account.login"
	EmptyPasswords = "account.empty-password"
	AuthorisedKeys = "account.authorised-keys"
	Cron           = "task.cron"
	Units          = "task.units"
	HardwareDebug  = "debug.hardware"
	Consoles       = "debug.console"
	ClockSync      = "clock.synchronised"
	DiskWear       = "disk.wear"
	BlockDevices   = "disk.read-only"
)

// TaintWords are the kernel's taint bits from bit 0 on
// (Documentation/admin-guide/tainted-kernels.rst).
var TaintWords = [...]string{
	"proprietary-module", "forced-module", "out-of-specification", "forced-unload", "machine-check",
	"bad-page", "by-user", "oops", "acpi-override", "warning", "staging-driver", "firmware-workaround",
	"out-of-tree-module", "unsigned-module", "soft-lockup", "live-patch", "auxiliary", "randomised-layout", "test", "fwctl",
}

// harmlessTaints come of drivers, hardware and faults; the others say that the
// running kernel is not the one that was built.
var harmlessTaints = []string{
	"auxiliary", "bad-page", "firmware-workaround", "machine-check", "oops", "out-of-specification", "out-of-tree-module",
	"proprietary-module", "randomised-layout", "soft-lockup", "staging-driver", "warning",
}
