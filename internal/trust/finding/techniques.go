package finding

import (
	"slices"
	"strings"
)

// AttackVersion is the version of ATT&CK and ATT&CK for ICS whose ids Techniques
// gives; later versions renumber some of them.
const AttackVersion = "18"

// Technique is one of ATT&CK (T and four digits that begin with 1) or of ATT&CK
// for ICS (that begin with 0).
type Technique struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Address is where MITRE describes the technique.
func (t Technique) Address() string {
	return "https://attack.mitre.org/techniques/" + strings.ReplaceAll(t.ID, ".", "/") + "/"
}

// Techniques are those of an attacker that this finding may be the trace of,
// sorted by id; none where it is rather a trace of wear, of a mistake or of the
// network. The daemon links neither this nor the tables beneath it.
func Techniques(code Code) []Technique {
	var out []Technique
	for _, t := range techniques {
		if slices.Contains(t.codes, code) {
			out = append(out, Technique{t.id, t.name})
		}
	}
	slices.SortFunc(out, func(a, b Technique) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// techniques has, for each technique, the findings that may be its trace.
var techniques = []struct {
	id, name string
	codes    []Code
}{
	{"T1542", "Pre-OS Boot", []Code{BootPCRDiffers, BootEventUnexpected, BootEventMissing, BootPCRUnexplained, FirmwareMixed, SecureBootOff, SecureBootMode, IdentityBootState, IdentityDataClosed, PostureSecureBoot}},
	{"T1542.001", "System Firmware", []Code{FirmwareMixed, BootPCRDiffers}},
	{"T0839", "Module Firmware", []Code{WatchForeignWriter}},
	{"T1542.003", "Bootkit", []Code{BootEventUnexpected, BootPCRUnexplained, SecureBootOff, IMAKexec}},
	{"T0857", "System Firmware", []Code{FirmwareMixed, BootPCRDiffers}},
	{"T1553", "Subvert Trust Controls", []Code{ReleaseSignature, ReleaseNoTrust, BaselineDiffers, IMASignature, IdentityNoTrust}},
	{"T1553.004", "Install Root Certificate", []Code{SecureBootKeys}},
	{"T1553.006", "Code Signing Policy Modification", []Code{SecureBootKeys, SecureBootMode, SecureBootOff, IMAAbsent, PostureSecureBoot, PostureModuleUnsigned}},
	{"T1562.010", "Downgrade Attack", []Code{SecureBootDBX, IdentityRollback, UpdateLockedOut, LinkTLSVersion}},
	{"T1562", "Impair Defenses", []Code{IMAAbsent, IMAUnreadable, DaemonBringUp, DaemonConfig, TPMAbsent, UpdateCounterFailing, PostureKernelWeakened, PostureLockdown, ScanOverdue, ScanInterrupted}},
	{"T1562.001", "Disable or Modify Tools", []Code{DaemonStalled, DaemonPrivileged, LinkSilence, WatchUnavailable, WatchCanaryMissed, SelfStarved, SelfKilled, SelfConfig}},
	{"T1562.006", "Indicator Blocking", []Code{AccessRecordsLost, HotplugEventsLost, LinkSilence, LinkEvidenceMissing, LinkSubscribeRefused, LinkChallengeRefused, JournalFailing, LinkSinkGap, WatchOverflow, WatchCanaryMissed, WatchBlind}},
	{"T1070", "Indicator Removal", []Code{JournalCorrupt, JournalReset, LinkSequenceGap, LinkReceiptForeign, BootPCRUnexplained, IMAPCRDiffers, IMABootAggregate, IMARecordsLost, IMATruncated, BootLogTruncated, QuoteReplayed, JournalAnchorGap, JournalAnchorInvalid, JournalAnchorMissing, JournalForked, JournalRolledBack, JournalForeign, JournalCounterJump}},
	{"T0872", "Indicator Removal on Host", []Code{JournalCorrupt, JournalReset, LinkSequenceGap, LinkReceiptForeign, JournalAnchorGap, JournalForked, JournalRolledBack}},
	{"T1014", "Rootkit", []Code{IMAPCRDiffers, IMABootAggregate, IMARecordsLost, PostureKernelTainted, PostureModuleUnknown}},
	{"T0851", "Rootkit", []Code{IMAPCRDiffers, BootPCRUnexplained, PostureKernelTainted, PostureModuleUnknown}},
	{"T1554", "Compromise Host Software Binary", []Code{IMAChangedFile, FileChanged, BaselineDiffers, IMASignature, ExecChangedFile, FilesDiffer, SelfExecutable}},
	{"T1036.005", "Match Legitimate Resource Name or Location", []Code{IMAChangedFile, FileChanged, ExecChangedFile}},
	{"T0849", "Masquerading", []Code{IMAChangedFile, FileChanged, ExecChangedFile}},
	{"T1059", "Command and Scripting Interpreter", []Code{IMAUnknownFile, ExecUnknownFile}},
	{"T1105", "Ingress Tool Transfer", []Code{IMAUnknownFile, FileNew, ExecUnknownFile}},
	{"T1547.006", "Kernel Modules and Extensions", []Code{IMAUnknownFile, PostureModuleUnknown, PostureModuleUnsigned}},
	{"T1543.002", "Systemd Service", []Code{UserEvent, FileNew, PostureScheduled}},
	{"T1222.002", "Linux and Mac File and Directory Permissions Modification", []Code{DaemonPrivileged, FileAttributesChanged}},
	{"T1565.001", "Stored Data Manipulation", []Code{JournalCorrupt, IdentityDamaged, IdentityStateClosed, IMAViolation, StorageVerityError, FileConfigChanged}},
	{"T1548.001", "Setuid and Setgid", []Code{FileNewSetuid, PostureSetuid}},
	{"T1070.004", "File Deletion", []Code{FileMissing}},
	{"T1485", "Data Destruction", []Code{FileMissing}},
	{"T1055", "Process Injection", []Code{SelfMapping, SelfText}},
	{"T1055.008", "Ptrace System Calls", []Code{SelfTraced, SelfText}},
	{"T1565.002", "Transmitted Data Manipulation", []Code{QuoteNonce, QuoteRegisters, QuoteMixed, LinkMessageInvalid, LinkEvidenceInvalid}},
	{"T1557", "Adversary-in-the-Middle", []Code{LinkServerUntrusted, LinkServerName, LinkServerUsage, LinkServerRevoked, LinkTLSVersion, LinkReceiptInvalid, LinkChallengeInvalid, LinkSinkUntrusted}},
	{"T0830", "Adversary-in-the-Middle", []Code{LinkServerUntrusted, LinkServerName, LinkServerUsage, LinkServerRevoked, LinkReceiptInvalid, LinkSinkUntrusted}},
	{"T1600", "Weaken Encryption", []Code{LinkServerWeak, LinkTLSVersion}},
	{"T1649", "Steal or Forge Authentication Certificates", []Code{IdentityMismatch, IdentityOtherTPM, LinkServerRevoked, QuoteOtherKey, LinkReceiptForeign}},
	{"T0856", "Spoof Reporting Message", []Code{QuoteOtherKey, QuoteReplayed, EvidenceForeign, LinkReceiptForeign, LinkSequenceGap}},
	{"T0848", "Rogue Master", []Code{LinkReceiptInvalid, LinkChallengeInvalid, LinkKeyUnknown, LinkRotationRefused}},
	{"T0804", "Block Reporting Message", []Code{LinkDown, LinkSilence, LinkSubscribeRefused, LinkRefused, LinkEvidenceMissing, LinkSinkDown}},
	{"T1499", "Endpoint Denial of Service", []Code{LinkChallengeFlood, LinkEvidenceFlood, JournalOverflow, JournalLimited, JournalFilling}},
	{"T0814", "Denial of Service", []Code{LinkChallengeFlood, LinkEvidenceFlood, JournalOverflow, JournalLimited, JournalFilling}},
	{"T1078", "Valid Accounts", []Code{IdentityRevoked, AccessRootLogin, PostureAccount}},
	{"T1200", "Hardware Additions", []Code{IdentityOtherTPM, IdentityMismatch, USBUnexpectedClass, USBPresentUnexpected, NetInterfaceAdded, SerialAdapterAdded}},
	{"T1091", "Replication Through Removable Media", []Code{USBStorageInserted, USBPresentUnexpected}},
	{"T0847", "Replication Through Removable Media", []Code{USBStorageInserted, USBPresentUnexpected}},
	{"T1052.001", "Exfiltration over USB", []Code{USBStorageInserted}},
	{"T1011", "Exfiltration Over Other Network Medium", []Code{NetInterfaceAdded}},
	{"T1040", "Network Sniffing", []Code{AccessAnomaly}},
	{"T1110", "Brute Force", []Code{AccessLoginFailed}},
	{"T1053.003", "Cron", []Code{PostureScheduled}},
	{"T1098.004", "SSH Authorized Keys", []Code{PostureAccount}},
	{"T1571", "Non-Standard Port", []Code{PostureSocket}},
}
