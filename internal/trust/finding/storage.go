package finding

// Codes about the device's encrypted volumes.
const (
	IdentityDataClosed  Code = "identity.data-closed"
	IdentityStateClosed Code = "identity.state-closed"
)

var storageCodes = []Definition{
	{IdentityDataClosed, High, Condition, "the data volume is closed",
		"The volume with the medical application's data did not open at this start: the boot state is not an approved one, the release is older than this device admits, or the TPM is another one, was cleared, or does not answer. The detail names which. Everything else runs; nothing was lost.",
		"Do what the finding itself says for its cause. The data can be read with the recovery key that was printed at manufacture.", []string{"IEC 62443-4-2 CR 4.1", "IEC 62443-4-2 EDR 3.14", "FDA App. 1 C"}},
	{IdentityStateClosed, High, Condition, "the state volume is closed",
		"The volume with the device's identity and Ward's record did not open at this start: the TPM is another one, was cleared, or does not answer, or the volume was changed. The detail names which. Events are kept in memory only, and the device has no identity towards the fleet.",
		"Do what the finding itself says for its cause. The record can be read with the recovery key that was printed at manufacture.", []string{"IEC 62443-4-2 CR 4.1", "IEC 62443-4-2 CR 1.5", "FDA App. 1 A", "FDA App. 1 E"}},
}
