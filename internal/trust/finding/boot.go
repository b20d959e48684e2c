package finding

// Codes about the boot and the release that it is judged against.
const (
	BootPCRDiffers           Code = "boot.pcr-differs"
	BootEventUnexpected      Code = "boot.event-unexpected"
	BootEventMissing         Code = "boot.event-missing"
	BootPCRUnexplained       Code = "boot.pcr-unexplained"
	BootPCRUnreadable        Code = "boot.pcr-unreadable"
	BootLogEmpty             Code = "boot.log-empty"
	BootLogUnreadable        Code = "boot.log-unreadable"
	BootLogTruncated         Code = "boot.log-truncated"
	BootLogAnomaly           Code = "boot.log-anomaly"
	BootNotJudged            Code = "boot.not-judged"
	ReleaseMissing           Code = "boot.release-missing"
	ReleaseSignature         Code = "boot.release-signature"
	ReleaseMalformed         Code = "boot.release-malformed"
	ReleaseSchema            Code = "boot.release-schema"
	ReleaseNoTrust           Code = "boot.release-no-trust"
	BaselineMissing          Code = "boot.baseline-missing"
	BaselineDiffers          Code = "boot.baseline-differs"
	bootRemedyReinstall           = "Reinstall the released software from the manufacturer's medium; if it comes back, replace the main board and report it to the manufacturer."
	bootRemedyReleaseRestore      = "Restore the release manifest beside the kernel image from the manufacturer's update package of this version."
)

var bootCodes = []Definition{
	{BootPCRDiffers, Critical, Condition, "boot differs from the release",
		"A platform configuration register does not hold the value that the signed release names: other software, another configuration or other firmware was started.",
		bootRemedyReinstall, []string{"IEC 62443-4-2 EDR 3.14", "IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BootEventUnexpected, Critical, Condition, "something was started that the release does not name",
		"The event log explains a difference: this event's digest is not among those that the release names for its register.",
		bootRemedyReinstall, []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{BootEventMissing, Critical, Condition, "a step of the released boot did not happen",
		"The release names an event that the event log of this boot does not hold.",
		bootRemedyReinstall, []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{BootPCRUnexplained, Critical, Condition, "the event log does not explain a register",
		"Replaying the event log does not give the register's value: events were removed from, changed in or never written to the log.",
		"Power the device off and on once. If the finding stays, treat the device as altered: take it out of use for connected services and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BootPCRUnreadable, High, Condition, "the TPM's registers cannot be read",
		"The boot could not be judged because the platform configuration registers could not be read. This is not a pass.",
		"Check that the TPM is enabled in the firmware set-up and that /dev/tpmrm0 exists; then power the device off and on.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BootLogEmpty, High, Condition, "the firmware's event log is empty",
		"The file exists and has no bytes: the firmware or kernel handed nothing over. The boot cannot be judged. This is not a pass.",
		"Power the device off and on. If the log stays empty, update the firmware or report the device to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BootLogUnreadable, High, Condition, "the firmware's event log cannot be read",
		"The event log is missing, unreadable or does not begin with a known header. The boot cannot be judged. This is not a pass.",
		"Power the device off and on. If it stays, report the device to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BootLogTruncated, High, Condition, "the firmware's event log is cut short",
		"The log ends inside an event. What stands before it was read; registers that it does not explain cannot be judged.",
		"Power the device off and on. If it stays, update the firmware or report the device to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BootLogAnomaly, Medium, Condition, "the firmware's event log breaks a rule of its specification",
		"The log can be read, yet something in it is not as the TCG firmware profile demands.",
		"Compare with another device of the same model and firmware; if only this one shows it, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BootNotJudged, High, Condition, "the boot was not judged",
		"There was nothing to judge the boot against, or not enough to judge it. This is not a pass.",
		"Look at the findings beside this one: they name what is missing.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{ReleaseMissing, High, Condition, "the release manifest is missing",
		"There is no release manifest beside the kernel image, so nothing can be judged.",
		bootRemedyReleaseRestore, []string{"IEC 62443-4-2 EDR 3.12", "FDA App. 1 D"}},
	{ReleaseSignature, Critical, Condition, "the release manifest is not signed by the manufacturer",
		"The manifest's signatures do not reach the threshold under the device's release keys: unsigned, signed by another key, or changed after signing.",
		bootRemedyReleaseRestore, []string{"IEC 62443-4-2 EDR 3.12", "FDA App. 1 D"}},
	{ReleaseMalformed, High, Condition, "the release manifest cannot be read",
		"The manifest is cut short or is not a signed envelope.",
		bootRemedyReleaseRestore, []string{"IEC 62443-4-2 EDR 3.12", "FDA App. 1 D"}},
	{ReleaseSchema, High, Condition, "the release manifest is of a schema that this version does not know",
		"The manifest is signed, but its schema or payload type is another one than this version of Ward reads.",
		"Install a manifest and a Ward version of the same release.", []string{"IEC 62443-4-2 EDR 3.12", "FDA App. 1 D"}},
	{ReleaseNoTrust, High, Condition, "no release keys are installed",
		"The folder of the trust anchors holds no release key, so no manifest can be accepted.",
		"Reinstall the released image; the trust anchors are part of it.", []string{"IEC 62443-4-2 EDR 3.10", "FDA App. 1 D"}},
	{BaselineMissing, High, Condition, "the file baseline cannot be read",
		"The list of the release's files is missing or cannot be read, so programs that run cannot be told from the released ones.",
		"Reinstall the released image; the file baseline is part of it.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{BaselineDiffers, Critical, Condition, "the file baseline is not the one that the release names",
		"The digest of the file baseline differs from the one in the signed manifest.",
		bootRemedyReinstall, []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
}
