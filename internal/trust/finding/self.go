package finding

// Codes about the daemon as what an intruder would change first.
const (
	SelfExecutable Code = "self.executable-changed"
	SelfMapping    Code = "self.mapping-unexpected"
	SelfText       Code = "self.text-changed"
	SelfConfig     Code = "self.config-changed"
	SelfTraced     Code = "self.traced"
	SelfStarved    Code = "self.starved"
	SelfKilled     Code = "self.killed"
	SelfUnseen     Code = "self.unreadable"
	selfRemedy          = "Treat the device as altered: what it reports may be wrong. Take it off the network when therapy allows, keep it powered, and report it to the manufacturer."
)

var selfCodes = []Definition{
	{SelfExecutable, Critical, Condition, "wardd's own program is not the release's",
		"The file that wardd executes is not what the signed release names, was removed, or another lies in its place.",
		selfRemedy, []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 EDR 3.2", "FDA App. 1 D"}},
	{SelfMapping, Critical, Condition, "code in wardd's memory is not of its program",
		"Memory that can be executed belongs to no file or to another file than wardd's program.",
		selfRemedy, []string{"IEC 62443-4-2 EDR 3.2", "FDA App. 1 D"}},
	{SelfText, Critical, Condition, "wardd's code was written to in memory",
		"Pages of the running program are not those of its file any more: a tracer or a probe of the kernel wrote to them.",
		selfRemedy, []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 EDR 3.2", "FDA App. 1 D"}},
	{SelfConfig, High, Condition, "wardd's configuration, unit or manifest was changed",
		"A file that tells wardd what to do is not what the signed release names, or changed while wardd runs; what it says holds from the next start on.",
		"Find out who changed the file. If it was not a service technician by the manufacturer's instruction, reinstall the released image.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 7.6", "FDA App. 1 D"}},
	{SelfTraced, Critical, Condition, "another process traces wardd",
		"A debugger is attached to wardd: it can read and change all that wardd does.",
		selfRemedy, []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 2.1", "FDA App. 1 D"}},
	{SelfStarved, High, Incident, "wardd stood still while the device ran",
		"For the time that the detail names wardd was halted by a signal or got no processor; what happened meanwhile may have been seen late or not at all.",
		"Look for who halted it, or what took the processor. wardd itself has gone on.", []string{"IEC 62443-4-2 CR 7.1", "IEC 62443-4-2 CR 7.2", "FDA App. 1 F", "FDA App. 1 G"}},
	{SelfKilled, High, Incident, "wardd was ended without being asked to stop",
		"In this boot a wardd before this one ended without its farewell: killed by the watchdog because it made no progress, by the kernel for want of memory, by somebody, or by a defect. What happened until the new start was not watched.",
		"Look at the init's or systemd's log for the reason. If it comes back, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 7.1", "IEC 62443-4-2 CR 7.2", "FDA App. 1 F", "FDA App. 1 G"}},
	{SelfUnseen, Medium, Condition, "wardd cannot look at itself",
		"What the kernel tells of a process could not be read, so a changed wardd would not be seen by itself. This is not a pass.",
		"Check that /proc is mounted without restrictions for wardd's user.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
}
