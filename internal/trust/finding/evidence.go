package finding

// Codes about the evidence that a device hands to others, and about what can be
// told of its Secure Boot.
const (
	QuoteMissing      Code = "boot.quote-missing"
	QuoteUnreadable   Code = "boot.quote-unreadable"
	QuoteOtherKey     Code = "boot.quote-other-key"
	QuoteNonce        Code = "boot.quote-nonce"
	QuoteRegisters    Code = "boot.quote-registers"
	QuoteMixed        Code = "boot.quote-mixed"
	QuoteReplayed     Code = "boot.quote-replayed"
	EvidenceForeign   Code = "boot.evidence-foreign"
	LogStale          Code = "boot.log-stale"
	UserLogUnreadable Code = "boot.userlog-unreadable"
	UserEvent         Code = "boot.user-event-unexpected"
	FirmwareMixed     Code = "boot.firmware-mixed"
	SecureBootOff     Code = "boot.secure-boot-off"
	SecureBootMode    Code = "boot.secure-boot-mode"
	SecureBootKeys    Code = "boot.secure-boot-keys"
	SecureBootDBX     Code = "boot.secure-boot-dbx"
	SecureBootUnknown Code = "boot.secure-boot-unknown"
	IMACheckpoint     Code = "ima.checkpoint-unknown"
	IMAKexec          Code = "ima.kexec"
	IMARecordsLost    Code = "ima.records-lost"
	remedyAltered          = "Treat the device as altered: take it off the network when therapy allows and report it to the manufacturer."
	remedyAskAgain         = "Ask the device for evidence again. If it stays, power the device off and on, and report it to the manufacturer."
)

var evidenceCodes = []Definition{
	{QuoteMissing, High, Condition, "no quote vouches for the registers",
		"The evidence holds no signature of the device's TPM, or no attestation key of the device is known. Nothing vouches for what it says. This is not a pass.",
		"Look at the findings about the TPM beside this one. At the fleet, check that the device's attestation key is registered.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 1.2", "FDA App. 1 A", "FDA App. 1 D"}},
	{QuoteUnreadable, High, Condition, "a quote cannot be read",
		"The bytes in the place of a quote are not one that a TPM makes. Nothing vouches for the registers. This is not a pass.",
		remedyAskAgain, []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{QuoteOtherKey, Critical, Condition, "a quote is signed by another key",
		"The signature is not by this device's attestation key: another TPM answered under this device's name, or the quote was changed.",
		"Do not trust the device under this name. Find out whether its main board was replaced; only an explicit act of the fleet's operator may register another key.", []string{"IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 3.4", "FDA App. 1 A", "FDA App. 1 D"}},
	{QuoteNonce, Critical, Condition, "a quote answers another question",
		"The quote's qualifying data are not those of this question and this record: it is a replay, or the record beside it was changed.",
		remedyAskAgain, []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{QuoteRegisters, Critical, Condition, "the registers are not those that were quoted",
		"The values beside the quote do not give its digest, or it is about other registers than it must be.",
		remedyAskAgain, []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{QuoteMixed, Critical, Condition, "the evidence is of two boots",
		"The two quotes were made in different boots of the TPM, or the later one first.",
		remedyAskAgain, []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{QuoteReplayed, Critical, Condition, "the evidence is older than what is known",
		"The TPM's clock or counts, or the device's record, stand behind those of evidence that was accepted before.",
		remedyAskAgain, []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{EvidenceForeign, Critical, Condition, "the evidence is of another device",
		"The evidence names another device or tenant than the one that was asked.",
		remedyAskAgain, []string{"IEC 62443-4-2 CR 1.2", "FDA App. 1 A"}},
	{LogStale, High, Condition, "the logs are of an earlier start",
		"The TPM was started anew since the kernel read the logs, as after hibernation: they cannot explain the registers. This is not tampering, and not a pass.",
		"Power the device off and on. Hibernation is not for devices that attest: switch it off in the released configuration.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{UserLogUnreadable, High, Condition, "the log of what user space measured cannot be read",
		"The system writes a log of its own measurements, and it cannot be read to its end. Registers that it would explain cannot be judged. This is not a pass.",
		"Power the device off and on. If it stays, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{UserEvent, Critical, Condition, "user space measured something that the release does not name",
		"An event of the system's own measurement log, in a register that the release judges, is not among those that the release names.",
		bootRemedyReinstall, []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{FirmwareMixed, Critical, Condition, "the registers fit no single accepted firmware",
		"Each register holds a value that the release accepts, but of different firmware versions: no firmware gives them together.",
		bootRemedyReinstall, []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{SecureBootOff, Critical, Condition, "Secure Boot is off",
		"The release demands Secure Boot, and the firmware measured that it is not enabled: anything may have been started.",
		"Switch Secure Boot on in the firmware set-up and lock the set-up; then reinstall the released software.", []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{SecureBootMode, High, Condition, "Secure Boot is not in the mode that the release demands",
		"The firmware measured setup, audit or another mode in which Secure Boot's keys can be changed or refusals are only noted.",
		"Put the firmware into the mode that the manufacturer's manual names (user or deployed mode).", []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{SecureBootKeys, Critical, Condition, "Secure Boot trusts a key that the release does not name",
		"PK, KEK or db holds a certificate or hash that the release does not accept: software signed by others would start.",
		"Restore the factory keys in the firmware set-up as the manufacturer's manual says, and report it to the manufacturer.", []string{"IEC 62443-4-2 EDR 3.12", "FDA App. 1 D"}},
	{SecureBootDBX, High, Condition, "Secure Boot's list of revoked software is too old",
		"dbx lacks hashes that the release demands, or the SBAT level is below the demanded one: software with known holes would start.",
		"Install the firmware or dbx update that belongs to this release.", []string{"IEC 62443-4-2 EDR 3.10", "FDA App. 1 H"}},
	{SecureBootUnknown, High, Condition, "the state of Secure Boot cannot be told",
		"The release demands Secure Boot, and the event log holds no measurement of it that hashes to its digest. This is not a pass.",
		"Look at the findings about the event log beside this one.", []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{IMACheckpoint, High, Condition, "the measurement list does not go on from what is known",
		"The list begins behind entries that the reader has never seen, or has seen otherwise: what ran before it cannot be judged. This is not a pass.",
		"Ask the device for its whole list. If it no longer has it, power the device off and on.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{IMAKexec, Medium, Condition, "the kernel was started by another kernel",
		"The measurement list goes on over a kexec: the firmware has not measured the kernel that runs now.",
		"Power the device off and on. Released devices do not use kexec: if it comes back, treat the device as altered.", []string{"IEC 62443-4-2 EDR 3.14", "FDA App. 1 D"}},
	{IMARecordsLost, High, Condition, "the measurement list lost records over a kexec",
		"The list goes on over a kexec, does not hold the record that the old kernel writes last, and does not explain PCR 10: entries between may be missing.",
		remedyAltered, []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
}
