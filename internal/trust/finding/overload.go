package finding

// Codes about a journal that is asked for more than it is made for.
const (
	JournalFilling   Code = "journal.filling"
	JournalFlash     Code = "journal.flash-budget"
	JournalLimited   Code = "journal.rate-limited"
	JournalAsideFull Code = "journal.aside-full"
)

var overloadCodes = []Definition{
	{JournalFilling, Medium, Condition, "the journal fills with events that the fleet has not confirmed",
		"More than three quarters of the journal's space hold unconfirmed events; from nine tenths on the severity is high. When it is full, the oldest of the lowest severity lose their content.",
		"Restore the connection to the fleet.", []string{"IEC 62443-4-2 CR 2.9", "FDA App. 1 F"}},
	{JournalFlash, Medium, Condition, "Ward writes more to the flash than its daily budget",
		"The bytes that Ward wrote within a day of running exceed the share of the flash's life that is meant for it.",
		"Look in the record for what repeats itself, and end its cause.", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
	{JournalLimited, High, Incident, "more events than the record takes: some were only counted",
		"So many different events came that those beyond the limit of their severity were counted by code and not recorded one by one.",
		"Look at the events before it: something is very wrong, or somebody floods the record to hide in it.", []string{"IEC 62443-4-2 CR 2.9", "IEC 62443-4-2 CR 7.1", "FDA App. 1 F", "FDA App. 1 G"}},
	{JournalAsideFull, High, Incident, "there was no room to keep a journal that was put aside",
		"Journals that were put aside are kept for an investigation within a bound; the earliest stay. What no longer fitted is gone.",
		"Copy the folders aside-* out of the journal's folder, remove them and report them to the manufacturer.", []string{"IEC 62443-4-2 CR 2.9", "IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
}
