package finding

// Codes about the watch over files and programs as they change and run.
const (
	WatchUnavailable   Code = "watch.unavailable"
	WatchBlind         Code = "watch.blind"
	WatchOverflow      Code = "watch.overflow"
	WatchFlood         Code = "watch.flood"
	WatchCanaryMissed  Code = "watch.canary-missed"
	WatchForeignWriter Code = "watch.foreign-writer"
	ExecUnknownFile    Code = "exec.unknown-file"
	ExecChangedFile    Code = "exec.changed-file"
)

var watchCodes = []Definition{
	{WatchUnavailable, Medium, Condition, "file changes are not seen as they happen",
		"The kernel does not tell of changes to files, or cannot be read any more; the detail says why. What changed is found by the next scan of all files only.",
		"Restart wardd; if it stays, report it. A platform engineer checks the daemon's start-up privileges and the kernel's CONFIG_FANOTIFY.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 6.2", "FDA App. 1 F"}},
	{WatchBlind, Low, Condition, "some file systems are not watched",
		"Changes on the file systems that the detail lists are not seen as they happen, or not all of them: they were mounted later, or do not let themselves be watched.",
		"Unmount what does not belong there. For what does, a platform engineer reads docs/runtime.md.", []string{"IEC 62443-4-2 CR 6.2", "FDA App. 1 F"}},
	{WatchOverflow, Medium, Condition, "file changes were lost",
		"Changes came faster than they could be looked at, so some were not. A scan of all files was asked for; the condition ends when it is done.",
		"Wait for the scan. If it comes again, find out which program changes so many files; it may cover what somebody does meanwhile.", []string{"IEC 62443-4-2 CR 6.2", "IEC 62443-4-2 CR 7.1", "FDA App. 1 F"}},
	{WatchFlood, Low, Incident, "a flood of file changes has ended",
		"How many changes there were, how many were not looked at, and how long it went on.",
		"Nothing, if it was an update or a service job; else find out which program it was.", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 F"}},
	{WatchCanaryMissed, High, Condition, "the watch over files is deaf",
		"Ward touches a file of its own every minute, and the kernel did not tell of it: other changes are not seen either. A scan of all files was asked for.",
		"Restart wardd; if it stays, or comes again, report it: somebody may have blinded the watch.", []string{"IEC 62443-4-2 CR 3.3", "IEC 62443-4-2 CR 6.2", "FDA App. 1 F"}},
	{WatchForeignWriter, High, Incident, "somebody else writes where the updater does",
		"The release says which program writes at this place, and another one did, or the updater itself is not as it was released.",
		"Find out who it was. Do not start the device from what was written until the manufacturer has looked at it; therapy that runs is not touched by it.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 EDR 3.10", "FDA App. 1 D"}},
	{ExecUnknownFile, High, Incident, "a program was run from a writable place and is not in the release",
		"A program was run from a file system that can be written to, and the signed release has neither its path nor its content. The kernel told of it as it was run.",
		imaRemedyUnknown, []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 3.2", "FDA App. 1 D"}},
	{ExecChangedFile, Critical, Incident, "a released program was run, changed, from a writable place",
		"A program at a path of the release was run with a content that the release does not name for it. The kernel told of it as it was run.",
		imaRemedyUnknown, []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 3.2", "FDA App. 1 D"}},
}
