package finding

// Codes about what ran since the boot, from the kernel's IMA list.
const (
	IMAUnreadable    Code = "ima.unreadable"
	IMAAbsent        Code = "ima.absent"
	IMATruncated     Code = "ima.truncated"
	IMAPCRDiffers    Code = "ima.pcr-differs"
	IMABootAggregate Code = "ima.boot-aggregate"
	IMAViolation     Code = "ima.violation"
	IMAUnknownFile   Code = "ima.unknown-file"
	IMAChangedFile   Code = "ima.changed-file"
	IMANotJudged     Code = "ima.not-judged"
	IMASignature     Code = "ima.signature"
	imaRemedyUnknown      = "Find out who put the file there and why. If it is not the manufacturer's, take the device off the network, keep it powered if therapy needs it, and report it."
)

var runtimeCodes = []Definition{
	{IMAUnreadable, High, Condition, "the kernel's measurement list cannot be read",
		"What ran since the boot cannot be judged. This is not a pass.",
		"Check that wardd's user may read /sys/kernel/security/ima; then power the device off and on.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{IMAAbsent, High, Condition, "the kernel does not measure what runs",
		"There is no IMA list: the kernel was built without IMA or no policy was loaded. What ran since the boot cannot be judged.",
		"Reinstall the released image. A platform engineer checks CONFIG_IMA and the IMA policy.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{IMATruncated, High, Condition, "the kernel's measurement list is cut short",
		"The list ends inside an entry; what stands before it was judged.",
		"Power the device off and on; if it stays, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{IMAPCRDiffers, Critical, Condition, "the measurement list does not explain PCR 10",
		"Replaying the kernel's list does not give the value of PCR 10: entries were removed or changed.",
		"Treat the device as altered: take it off the network when therapy allows and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
	{IMABootAggregate, Critical, Condition, "the measurement list is not of this boot",
		"The list's first entry ties it to the boot: it must be the hash over PCR 0 to 9. It is missing or holds another value.",
		"Treat the device as altered: take it off the network when therapy allows and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
	{IMAViolation, High, Incident, "a file was written while it was being measured",
		"The kernel could not vouch for what ran: the file was open for writing at the moment of its measurement.",
		imaRemedyUnknown, []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
	{IMAUnknownFile, High, Incident, "a program ran that is not in the release",
		"The kernel measured a program, library, module or firmware file that the signed release does not name.",
		imaRemedyUnknown, []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
	{IMAChangedFile, Critical, Incident, "a released program ran with other content",
		"A path of the release was measured with a digest that the release does not name for it.",
		imaRemedyUnknown, []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
	{IMASignature, High, Incident, "a file's signature is not by the key that it names",
		"The kernel measured a file with a signature that names a known key and is not by that key over the file's digest.",
		imaRemedyUnknown, []string{"IEC 62443-4-2 CR 3.4 RE1", "FDA App. 1 D"}},
	{IMANotJudged, Medium, Condition, "what ran was not judged",
		"The measurement list was read, but there is no trusted file baseline to compare it with. This is not a pass.",
		"Look at the findings beside this one: they name what is missing.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
}
