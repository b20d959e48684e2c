package finding

// Codes about updates and the anti-rollback counter.
const (
	UpdateLockedOut      Code = "update.locked-out"
	UpdateCounterFailing Code = "update.counter-failing"
	UpdateUnconfirmed    Code = "update.unconfirmed"
)

var updateCodes = []Definition{
	{UpdateLockedOut, High, Condition, "this release was locked out by a newer one",
		"The TPM's anti-rollback counter is ahead of the running release: a newer release was confirmed on this device. Keys and secrets that are bound to the boot state stay shut. What is not bound to it works: the device reports, and therapy is not touched.",
		"Boot the newer release, or install one with a rollback index that is not below it. The counter cannot be taken back.", []string{"IEC 62443-4-2 EDR 3.10", "FDA App. 1 D", "FDA App. 1 H"}},
	{UpdateCounterFailing, High, Condition, "the anti-rollback counter cannot be moved",
		"The counter in the TPM cannot be read or moved, or the release's identity policy is not by the policy key of the trust anchors. Until it moves, older releases still open what is bound to the boot state.",
		"Look at the detail. If the TPM fails, power the device off and on; if the counter is missing or another policy key is named, the device was not manufactured for this release: report it to the manufacturer.", []string{"IEC 62443-4-2 EDR 3.10", "FDA App. 1 D"}},
	{UpdateUnconfirmed, Low, Condition, "the running release was not confirmed",
		"The device has run a newer release than the anti-rollback counter knows for a day or longer, and nobody has marked it good. Older releases still open what is bound to the boot state.",
		"If the device works as it should, confirm the release as root: wardctl update confirm. A platform engineer lets the updater's mark-good hook do it.", []string{"IEC 62443-4-2 EDR 3.10", "FDA App. 1 H"}},
}
