package finding

// Codes about wardd itself.
const (
	DaemonConfig     Code = "daemon.config-invalid"
	DaemonBringUp    Code = "daemon.bring-up"
	DaemonStalled    Code = "daemon.role-stalled"
	DaemonPrivileged Code = "daemon.privileged"
)

var daemonCodes = []Definition{
	{DaemonConfig, High, Condition, "the configuration cannot be used",
		"wardd runs on built-in settings because its configuration has an error.",
		"Mend the file and line that the detail names, or reinstall the released image.", []string{"IEC 62443-4-2 CR 7.6", "FDA App. 1 F"}},
	{DaemonBringUp, Medium, Condition, "bring-up mode: everything is reported, nothing is judged",
		"The device is configured for bring-up. No verdict of this device means anything.",
		"Set bring_up = false in the released configuration.", []string{"IEC 62443-4-2 CR 7.7", "FDA App. 1 D"}},
	{DaemonStalled, High, Condition, "a part of wardd makes no progress",
		"A role has stopped or reports no progress within its bound.",
		"Restart wardd; if it comes back, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 7.2", "FDA App. 1 G"}},
	{DaemonPrivileged, Medium, Condition, "wardd runs with more privilege than it needs",
		"wardd runs as root, holds capabilities that it could not give up, or is not bound by its filter of system calls.",
		"Start wardd by the unit of the release.", []string{"IEC 62443-4-2 CCSC 3", "FDA App. 1 B"}},
}
