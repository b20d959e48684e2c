package finding

// Codes about who logs in at the device.
const (
	AccessRootLogin   Code = "access.root-login"
	AccessLoginFailed Code = "access.login-failed-repeatedly"
	AccessAnomaly     Code = "access.anomaly"
	AccessNoSource    Code = "access.no-source"
	AccessRecordsLost Code = "access.records-lost"
)

var accessCodes = []Definition{
	{AccessRootLogin, Medium, Incident, "somebody logged in as root",
		"Somebody logged in with the rights to change everything, at the terminal that the detail names.",
		"Ask who it was. If nobody knows, treat the device as altered: keep it off the network and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 1.1", "IEC 62443-4-2 CR 2.1", "IEC 62443-4-2 CR 2.8", "FDA App. 1 B", "FDA App. 1 F"}},
	{AccessLoginFailed, Medium, Incident, "logins failed again and again",
		"Several logins failed within a few minutes: somebody tries passwords, or a program has a wrong one.",
		"Ask at the device who tries. If the terminal is ssh, close the network's way to it until it is known.", []string{"IEC 62443-4-2 CR 1.11", "IEC 62443-4-2 CR 2.8", "FDA App. 1 A", "FDA App. 1 F"}},
	{AccessAnomaly, Medium, Incident, "the kernel's audit tells of an anomaly",
		"The kernel or a login program called something out of order: an interface that listens to everybody's traffic, or too many, oddly timed or forbidden logins. The detail names which.",
		"Report it to the manufacturer with the events around it (wardctl events).", []string{"IEC 62443-4-2 CR 2.8", "IEC 62443-4-2 CR 6.2", "FDA App. 1 F"}},
	{AccessNoSource, Low, Condition, "logins are not seen",
		"There is no source for logins: the kernel's audit is not there, is switched off or cannot be heard, and no program keeps /var/log/wtmp or /run/utmp. Service mode and break-glass are recorded all the same.",
		"Nothing at the bedside. The manufacturer can switch the kernel's audit on (audit=1) and give the daemon CAP_AUDIT_READ.", []string{"IEC 62443-4-2 CR 2.8", "FDA App. 1 F"}},
	{AccessRecordsLost, Medium, Incident, "records of logins were lost",
		"The kernel's audit had more to say than the daemon took: logins may have gone unseen, and a flood may have been made to hide them.",
		"Look at the events around it (wardctl events); a program that floods the audit should be stopped by the manufacturer.", []string{"IEC 62443-4-2 CR 2.8", "IEC 62443-4-2 CR 2.10", "FDA App. 1 F"}},
}
