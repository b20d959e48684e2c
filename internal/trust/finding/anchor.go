package finding

// Codes about the journal's anchor in the TPM, its checkpoints.
const (
	JournalAnchorMissing Code = "journal.anchor-missing"
	JournalAnchorInvalid Code = "journal.anchor-invalid"
	JournalAnchorGap     Code = "journal.anchor-gap"
	JournalCounterJump   Code = "journal.counter-jump"
	JournalRolledBack    Code = "journal.rolled-back"
	JournalForked        Code = "journal.forked"
	JournalForeign       Code = "journal.foreign"
)

var anchorCodes = []Definition{
	{JournalAnchorMissing, Medium, Condition, "the journal is not anchored in the TPM",
		"No checkpoint could be taken: the TPM does not answer, its counters were not made at manufacture, or the journal cannot be written. Until one is taken, somebody with root's rights can rewrite what was recorded since the last one without a trace. Of a copy: no checkpoint in it can be verified with this key.",
		"See the detail: with a failing TPM or a failing disk their own findings say what to do; a device that was not manufactured has no counters: run 'wardctl provision'.",
		[]string{"IEC 62443-4-2 CR 2.12", "IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{JournalAnchorInvalid, Critical, Incident, "a checkpoint does not fit the journal",
		"A checkpoint in the journal does not certify what it says: another counter or value, a record that was written anew since, a value that was certified before, or a TPM that was set back. Somebody with root's rights changed the journal, or the TPM is not one.",
		"Take the device out of service, export the journal and report it to the manufacturer; trust what the fleet received before.",
		[]string{"IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{JournalAnchorGap, Critical, Incident, "checkpoints were removed from the journal",
		"Values of the TPM's counter were certified and are not in the journal, and neither a power cut nor lost content explains it: the records between were rewritten or removed. The detail says how many.",
		"Take the device out of service, export the journal and report it to the manufacturer; trust what the fleet received before.",
		[]string{"IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{JournalCounterJump, Medium, Incident, "the journal's counter jumped ahead",
		"Values of the TPM's counter are not in the journal, as after a power cut (which moves the everyday counter ahead), a journal begun anew, or records that lost their content. As many erased checkpoints would look the same; the detail says how many values.",
		"Nothing to do after a known power cut. Else compare the journal with what the fleet received.",
		[]string{"IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{JournalRolledBack, Critical, Incident, "the journal is an older copy",
		"The journal ends before what is known of it: the TPM's counter, a receipt of the fleet or a checkpoint from elsewhere is ahead. An older copy was restored, or its end was cut off. On the device it is put aside and a new one begun.",
		"Find out who restored or cut the journal; export what was put aside and report it to the manufacturer.",
		[]string{"IEC 62443-4-2 CR 3.9", "IEC 62443-4-2 CR 6.1", "FDA App. 1 F"}},
	{JournalForked, Critical, Incident, "the journal is not the one that was anchored",
		"A record has another hash than the one that a receipt of the fleet or a checkpoint from elsewhere names: the journal was written anew from some record on.",
		"Export the journal and report it to the manufacturer; trust what the fleet received.",
		[]string{"IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{JournalForeign, Critical, Incident, "the journal is of another device or another TPM",
		"Its checkpoints are not signed by this device's attestation key, or it names another device: the disk was copied from another device, or the TPM was cleared or replaced.",
		"After a known change of the main board or the TPM: enrol the device again. Else find out where the disk comes from.",
		[]string{"IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 3.9", "FDA App. 1 A", "FDA App. 1 F"}},
}
