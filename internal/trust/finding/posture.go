package finding

// Codes about what a device says of its own state beside its files. The subject is
// posture/ and the claim's name (docs/posture.md): a claim has one condition.
const (
	PostureUnreadable     Code = "posture.unreadable"
	PostureRuleUnknown    Code = "posture.rule-unknown"
	PostureDiffers        Code = "posture.differs"
	PostureSecureBoot     Code = "posture.secure-boot"
	PostureLockdown       Code = "posture.lockdown"
	PostureModuleUnknown  Code = "posture.module-unknown"
	PostureModuleMissing  Code = "posture.module-missing"
	PostureModuleUnsigned Code = "posture.module-unsigned"
	PostureKernelTainted  Code = "posture.kernel-tainted"
	PostureKernelWeakened Code = "posture.kernel-weakened"
	PostureKernelVersion  Code = "posture.kernel-version"
	PostureCPU            Code = "posture.cpu-vulnerable"
	PostureSysctl         Code = "posture.sysctl"
	PostureDebug          Code = "posture.debug-interface"
	PostureTPMWeak        Code = "posture.tpm-weak"
	PostureMount          Code = "posture.mount"
	PostureVerity         Code = "posture.verity"
	PostureEncryption     Code = "posture.encryption"
	PostureSocket         Code = "posture.socket-unknown"
	PostureSetuid         Code = "posture.setuid"
	PostureAccount        Code = "posture.account"
	PostureScheduled      Code = "posture.scheduled-task"
	PostureClock          Code = "posture.clock"
	PostureWear           Code = "posture.wear"

	postureRemedyWho  = "Find out who changed it and why. If it is not the manufacturer's doing, take the device off the network when therapy allows, and report it."
	postureRemedyBoot = "Power the device off and on when therapy allows. If it stays, report it to the manufacturer."
	postureRemedyTell = "Report it to the manufacturer."
	postureThreat     = "The signed release does not have it so: "
)

var (
	postureIntegrity = []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}
	postureNotice    = []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}
	postureBoot      = []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}
	postureLeast     = []string{"IEC 62443-4-2 CR 7.7", "FDA App. 1 B"}
	posturePrivilege = []string{"IEC 62443-4-2 CR 2.1", "FDA App. 1 B"}
)

var postureCodes = []Definition{
	{PostureUnreadable, Medium, Condition, "a part of the device's state cannot be read",
		"The claim is judged by the release or by default and could not be read: what it would say is unknown. This is not a pass.",
		postureRemedyBoot, []string{"IEC 62443-4-2 CR 3.3", "FDA App. 1 D"}},
	{PostureRuleUnknown, Low, Condition, "the release asks for what this device cannot tell",
		"The release has a rule about a claim that this version of wardd does not know, or that nothing on this device reads. It is not judged.",
		postureRemedyTell, []string{"IEC 62443-4-2 CR 3.3", "FDA App. 1 D"}},
	{PostureDiffers, Medium, Condition, "the device's state is not as released",
		postureThreat + "the detail names the claim and the values.", postureRemedyWho, postureIntegrity},
	{PostureSecureBoot, High, Condition, "Secure Boot is not set as released",
		postureThreat + "firmware that does not enforce signatures, or takes new keys, starts any system.", postureRemedyBoot, postureBoot},
	{PostureLockdown, High, Condition, "the kernel is not locked down as released",
		postureThreat + "root can then change the running kernel.", postureRemedyBoot, postureIntegrity},
	{PostureModuleUnknown, High, Condition, "a kernel module is loaded that is not in the release",
		postureThreat + "a module has every power of the kernel.", postureRemedyWho, postureNotice},
	{PostureModuleMissing, Medium, Condition, "a kernel module of the release is not loaded",
		"A module that the release requires is not there: a device or a protection that it serves does not work.", postureRemedyBoot, postureIntegrity},
	{PostureModuleUnsigned, High, Condition, "the kernel took code without a valid signature",
		"A module was loaded unsigned or by force, or the kernel does not demand signatures as released.",
		postureRemedyWho, []string{"IEC 62443-4-2 CR 3.4 RE1", "FDA App. 1 D"}},
	{PostureKernelTainted, High, Condition, "the running kernel is not the one that was built",
		"The kernel notes that it was changed or forced: an unsigned or forced module, a live patch, a replaced table. The note stays until the next start.",
		postureRemedyWho, postureNotice},
	{PostureKernelWeakened, High, Condition, "a protection of the kernel is off or changed",
		postureThreat + "its command line, security modules, measurement or kexec state.", postureRemedyBoot, postureIntegrity},
	{PostureKernelVersion, High, Condition, "another kernel runs than the released one",
		postureThreat + "release or build of the kernel.", postureRemedyBoot, postureBoot},
	{PostureCPU, Low, Condition, "the processor's weaknesses are not mitigated as released",
		"The kernel tells another state of a known weakness of the processor: an option, the microcode or the processor is another one.",
		postureRemedyTell, postureIntegrity},
	{PostureSysctl, Medium, Condition, "a security setting of the kernel was changed",
		postureThreat + "the detail names the setting with its value.", postureRemedyWho, postureLeast},
	{PostureDebug, High, Condition, "a debug interface is open",
		postureThreat + "who reaches it reads or changes what runs.", postureRemedyWho, []string{"IEC 62443-4-2 EDR 2.13", "FDA App. 1 B"}},
	{PostureTPMWeak, Medium, Condition, "the TPM has a known weakness",
		"Maker and firmware of the TPM are those of a published weakness; the detail names it. Keys that the TPM made may be recovered.",
		postureRemedyTell, []string{"IEC 62443-4-2 CR 4.3", "FDA App. 1 C"}},
	{PostureMount, Medium, Condition, "a file system is not mounted as released",
		postureThreat + "another source, place or option.", postureRemedyWho, postureLeast},
	{PostureVerity, Critical, Condition, "the root file system is not protected as released",
		postureThreat + "without dm-verity or fs-verity over the released hash, programs can be changed on the disk.", postureRemedyBoot, postureNotice},
	{PostureEncryption, High, Condition, "a volume is not encrypted as released",
		postureThreat + "who takes the disk reads it.", postureRemedyTell, []string{"IEC 62443-4-2 CR 4.1", "FDA App. 1 E"}},
	{PostureSocket, High, Condition, "a network socket listens that is not in the release",
		postureThreat + "the detail names the address and the program.", postureRemedyWho, postureLeast},
	{PostureSetuid, High, Condition, "a program has privileges that the release does not give it",
		postureThreat + "set-user-id, set-group-id, or a program that everybody can write.", postureRemedyWho, posturePrivilege},
	{PostureAccount, High, Condition, "an account is not as released",
		postureThreat + "a user that can log in, an empty password or an authorised key.", postureRemedyWho, []string{"IEC 62443-4-2 CR 1.3", "FDA App. 1 A"}},
	{PostureScheduled, High, Condition, "something is set to start that is not in the release",
		postureThreat + "a unit, timer or cron entry outlives a restart.", postureRemedyWho, postureNotice},
	{PostureClock, Low, Condition, "the clock is not kept as released",
		"The clock's source or its synchronisation differs: times in records may be wrong; their order is not.", "Check the time server and the network.", []string{"IEC 62443-4-2 CR 2.11", "FDA App. 1 F"}},
	{PostureWear, Low, Condition, "the disk nears the end of its life",
		"The flash tells more wear than the release allows.", "Plan the replacement of the disk.", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
}
