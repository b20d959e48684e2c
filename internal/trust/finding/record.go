package finding

// Codes about the journal, the device's record of events.
const (
	JournalTorn     Code = "journal.torn-write"
	JournalCorrupt  Code = "journal.corrupt"
	JournalFailing  Code = "journal.write-failing"
	JournalOverflow Code = "journal.overflow"
	JournalReset    Code = "journal.begun-anew"
)

var recordCodes = []Definition{
	{JournalTorn, Info, Incident, "the last write before a power cut was incomplete",
		"The journal's end held a record that was only partly written. It had not been confirmed as durable and was dropped.",
		"Nothing to do.", []string{"IEC 62443-4-2 CR 2.8", "FDA App. 1 F"}},
	{JournalCorrupt, Critical, Incident, "the journal was damaged or altered",
		"A record before the journal's end does not fit its checksum or the chain. What stands before and after it is kept.",
		"Export the journal and report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{JournalFailing, High, Condition, "the journal cannot be written",
		"Events are held in memory and will be lost at the next power cut.",
		"Check the state partition: full, read-only or worn out.", []string{"IEC 62443-4-2 CR 2.10", "FDA App. 1 F"}},
	{JournalOverflow, High, Incident, "events lost their content for want of space",
		"The journal was full of events that the fleet had not confirmed; the oldest of the lowest severity lost their content and kept their place in the chain.",
		"Restore the connection to the fleet.", []string{"IEC 62443-4-2 CR 2.9", "FDA App. 1 F"}},
	{JournalReset, High, Incident, "the journal was begun anew",
		"There was no journal on the state partition (first start, or it was removed), or the one that lay there was an older copy or another device's and was put aside. The detail says which. The epoch has grown.",
		"On a device that has run before: find out who removed or replaced the journal.", []string{"IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
}
