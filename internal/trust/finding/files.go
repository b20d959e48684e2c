package finding

// Codes about the device's files, from their comparison with the release's file
// baseline.
const (
	FileChanged           Code = "file.changed"
	FileConfigChanged     Code = "file.config-changed"
	FileAttributesChanged Code = "file.attributes-changed"
	FileMissing           Code = "file.missing"
	FileNew               Code = "file.new"
	FileNewSetuid         Code = "file.new-setuid"
	FileUnreadable        Code = "file.unreadable"
	fileRemedyAltered          = "Find out who changed it and when. If it was not the manufacturer's service, take the device off the network, keep it powered if therapy needs it, and report it; reinstalling the released image sets it right."
)

var fileCodes = []Definition{
	{FileChanged, High, Incident, "a file is not as the release has it",
		"Type, content, size, link target, device numbers or fs-verity digest of a file differ from the signed release. Critical where it is a program, library or kernel module. The detail says what differs and which component it belongs to.",
		fileRemedyAltered, []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
	{FileConfigChanged, High, Incident, "settings are not as the release has them",
		"The content of a file that the release marks as settings differs from the release.",
		"Compare the settings with the device's service record. If nobody of the manufacturer or the clinic's technicians changed them, treat the device as altered and report it.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 7.6", "FDA App. 1 D"}},
	{FileAttributesChanged, High, Incident, "a file's rights or owner are not as the release has them",
		"Mode, owner, capabilities or other security attributes of a file differ from the release, its content does not: somebody else may now read, change or run it.",
		fileRemedyAltered, []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 2.1", "FDA App. 1 D"}},
	{FileMissing, High, Incident, "a file of the release is missing",
		"The signed release names a file, folder, link or device that is not on the device.",
		fileRemedyAltered, []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{FileNew, Medium, Incident, "a file is not of the release",
		"A folder of the release holds something that the release does not name and that is not meant to change there. High where it is a program.",
		"Find out who put the file there and why. If it is not the manufacturer's, take the device off the network, keep it powered if therapy needs it, and report it.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 3.2", "FDA App. 1 D"}},
	{FileNewSetuid, Critical, Incident, "a file grants rights that the release does not give",
		"A file has set-uid, set-gid or file capabilities that the signed release does not name: whoever runs it gains another user's rights. It is told wherever it lies.",
		"Treat the device as altered: take it off the network when therapy allows, keep it powered, and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 2.1", "IEC 62443-4-2 CR 3.4", "FDA App. 1 B", "FDA App. 1 D"}},
	{FileUnreadable, Medium, Incident, "a file could not be compared with the release",
		"A file or folder could not be read, so that nobody knows whether it is as the release has it, nor what lies beneath it. This is not a pass.",
		"Look at the detail: an I/O error is a sign of a failing disk; a refused permission is for the platform engineer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
}
