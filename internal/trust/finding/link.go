package finding

// Codes about the device's identity, its TPM and its link to the fleet.
const (
	TPMAbsent            Code = "tpm.absent"
	TPMFailing           Code = "tpm.failing"
	IdentityMissing      Code = "identity.missing"
	IdentityMismatch     Code = "identity.key-mismatch"
	IdentityExpired      Code = "identity.expired"
	IdentityNoTrust      Code = "identity.no-trust"
	LinkDown             Code = "link.down"
	LinkServerUntrusted  Code = "link.server-untrusted"
	LinkServerName       Code = "link.server-name"
	LinkRefused          Code = "link.refused"
	LinkReceiptInvalid   Code = "link.receipt-invalid"
	LinkReceiptForeign   Code = "link.receipt-foreign-head"
	LinkSubscribeRefused Code = "link.subscribe-refused"
	LinkSilence          Code = "link.silence"
	LinkMessageInvalid   Code = "link.message-invalid"
	LinkSequenceGap      Code = "link.sequence-gap"
	LinkChallengeInvalid Code = "link.challenge-invalid"
	LinkChallengeFlood   Code = "link.challenge-flood"
	LinkChallengeRefused Code = "link.challenge-refused"
	LinkEvidenceMissing  Code = "link.evidence-missing"
	LinkEvidenceInvalid  Code = "link.evidence-invalid"
	LinkEvidenceFlood    Code = "link.evidence-flood"
	LinkContentLost      Code = "link.content-lost"
	LinkRotationRefused  Code = "link.key-rotation-refused"
	LinkKeyUnknown       Code = "link.key-unknown"
	LinkProxyRefused     Code = "link.proxy-refused"
	LinkProtocol         Code = "link.protocol"
	LinkBudgetSpent      Code = "link.budget-spent"
)

var linkCodes = []Definition{
	{TPMAbsent, High, Condition, "there is no TPM",
		"The TPM's device file is missing. The boot cannot be judged and the device has no identity towards the fleet.",
		"Enable the TPM in the firmware set-up; if it is enabled, replace the main board.", []string{"IEC 62443-4-2 CR 1.5", "IEC 62443-4-2 EDR 3.10", "FDA App. 1 A", "FDA App. 1 D"}},
	{TPMFailing, High, Condition, "the TPM does not answer as it should",
		"A TPM command failed more often than its bound allows.",
		"Power the device off and on; if it stays, replace the main board.", []string{"IEC 62443-4-2 CR 1.5", "FDA App. 1 A"}},
	{IdentityMissing, High, Condition, "the device has no certificate",
		"There is no certificate for the device's reporting key, so it cannot connect to the fleet. Events are kept on the device.",
		"Enrol the device.", []string{"IEC 62443-4-2 CR 1.2", "FDA App. 1 A"}},
	{IdentityMismatch, High, Condition, "the certificate does not belong to this device's TPM",
		"The certificate's public key is not the one in the TPM: the state partition comes from another device, or the TPM was replaced.",
		"Enrol the device again; report it if no repair explains it.", []string{"IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 1.9", "FDA App. 1 A"}},
	{IdentityExpired, High, Condition, "the device's certificate has expired",
		"The fleet will refuse the connection. Events are kept on the device.",
		"Enrol the device again and check its clock.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{IdentityNoTrust, High, Condition, "no fleet root certificates are installed",
		"The folder of the trust anchors holds no certificate for the fleet, so no broker can be accepted.",
		"Reinstall the released image; the trust anchors are part of it.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{LinkDown, Medium, Condition, "the fleet cannot be reached",
		"No connection to any configured broker. Events are kept on the device until the fleet has confirmed them.",
		"Check the network cable, the address, the proxy if there is one, and the hospital's firewall (port 8883, or 443).", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
	{LinkServerUntrusted, High, Condition, "the broker is not the fleet's",
		"The broker's certificate does not chain to the fleet's own roots. The connection was refused.",
		"Check for a proxy that opens TLS connections; if there is none, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 1.8", "IEC 62443-4-2 CR 3.1", "FDA App. 1 A", "FDA App. 1 D"}},
	{LinkServerName, High, Condition, "the broker has another name than configured",
		"The broker's certificate is from the fleet's roots but for another name. The connection was refused.",
		"Check the configured broker and its certificate.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{LinkRefused, High, Condition, "the broker refuses this device",
		"The broker ended the connection during authentication: the device's certificate is unknown, revoked or expired there.",
		"Check the device's enrolment with the fleet.", []string{"IEC 62443-4-2 CR 1.2", "FDA App. 1 A"}},
	{LinkReceiptInvalid, High, Incident, "a receipt was not signed by the fleet",
		"A receipt arrived whose signature or form is wrong. It was ignored and freed nothing.",
		"Report it to the fleet's operator: somebody can write to the device's topic.", []string{"IEC 62443-4-2 CR 3.1", "FDA App. 1 D"}},
	{LinkReceiptForeign, Critical, Incident, "the fleet confirmed a record that this device did not write",
		"A correctly signed receipt names a chain head that is not in this device's journal: the journal was replaced or shortened, or another device uses this identity.",
		"Report it to the manufacturer; compare the journal with the fleet's copy.", []string{"IEC 62443-4-2 CR 2.8", "IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{LinkSubscribeRefused, Medium, Condition, "the broker refuses the device's subscription",
		"The device cannot receive receipts, so it keeps every event until its journal is full.",
		"Check the broker's access list for this device.", []string{"IEC 62443-4-2 CR 2.1", "FDA App. 1 B"}},
	{LinkSilence, High, Condition, "the device has gone silent",
		"Seen by the fleet: the device's connection ended without a farewell, or its birth did not come in time. Whether it is off, cut off or altered cannot be told from here.",
		"Look at the device.", []string{"IEC 62443-4-2 CR 3.4 RE2", "FDA App. 1 D"}},
	{LinkMessageInvalid, High, Incident, "a message of the device cannot be accepted",
		"Seen by the fleet: a message breaks the contract's schema or bounds. It was kept apart and not confirmed.",
		"Report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.5", "FDA App. 1 D"}},
	{LinkSequenceGap, High, Incident, "events of the device are missing",
		"Seen by the fleet: the chain of the device's events has a gap or a fork.",
		"Export the device's journal at the bedside and compare.", []string{"IEC 62443-4-2 CR 3.9", "FDA App. 1 F"}},
	{LinkChallengeInvalid, High, Incident, "a question for evidence was not the fleet's, or came again",
		"A challenge arrived whose signature or form is wrong, which is for another device, or which was answered before. It was not answered.",
		"Report it to the fleet's operator: somebody can write to the device's topic.", []string{"IEC 62443-4-2 CR 3.1", "FDA App. 1 D"}},
	{LinkChallengeFlood, Medium, Incident, "the fleet asks for evidence too often",
		"More challenges arrive than a device answers, which is one in ten seconds. The others were left unanswered; therapy and events are not held up.",
		"Report it to the fleet's operator: the fleet is set up wrongly, or its challenge key is in other hands.", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
	{LinkChallengeRefused, Medium, Condition, "the broker refuses the device's subscription to challenges",
		"The device cannot hear the fleet's questions for evidence. It still sends evidence now and then that nobody asked for.",
		"Check the broker's access list for this device.", []string{"IEC 62443-4-2 CR 2.1", "FDA App. 1 B"}},
	{LinkEvidenceMissing, High, Condition, "the device does not answer a question for evidence",
		"Seen by the fleet: the device is connected, and evidence did not come before the question expired. What state it is in is not known. This is not a pass.",
		"Look at the device's own findings about its TPM and its link; if there are none, look at the device.", []string{"IEC 62443-4-2 CR 3.4", "IEC 62443-4-2 CR 1.2", "FDA App. 1 A", "FDA App. 1 D"}},
	{LinkEvidenceInvalid, High, Incident, "evidence of the device cannot be read",
		"Seen by the fleet: what came as evidence is none, or its parts do not give it. It was not appraised.",
		"Report it to the manufacturer.", []string{"IEC 62443-4-2 CR 3.5", "FDA App. 1 D"}},
	{LinkEvidenceFlood, Medium, Incident, "the device sends more evidence than it should",
		"Seen by the fleet: evidence came faster than the fleet takes it from one device. What was too much was left out.",
		"Report it to the manufacturer; look at the device.", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
	{LinkContentLost, Medium, Incident, "events of the device lost their content",
		"Seen by the fleet: the device's journal was full, and it gave up the content of what was least grave. The chain holds: that these events were, and where, is known; what they said is not.",
		"Find out why the device was cut off for so long. If it is often, give the journal more room (journal.max_bytes).", []string{"IEC 62443-4-2 CR 2.9", "FDA App. 1 F"}},
	{LinkRotationRefused, High, Incident, "a new key of the fleet was refused",
		"The successor of a receipt or challenge key does not follow from the keys that the device knows, or could not be stored. The keys stayed as they were.",
		"Report it to the fleet's operator: somebody can write to the device's topic, perhaps with an old key of the fleet.", []string{"IEC 62443-4-2 CR 1.9", "IEC 62443-4-2 CR 3.1", "FDA App. 1 A", "FDA App. 1 D"}},
	{LinkKeyUnknown, High, Condition, "the device does not accept the fleet's receipt key",
		"Seen by the fleet: no rotation leads from the keys that the device names to the fleet's receipt key. Its events are kept on the device.",
		"Give the fleet all its rotations; if that does not help, install a release whose anchors hold the new key alone.", []string{"IEC 62443-4-2 CR 1.9", "IEC 62443-4-2 CR 2.8", "FDA App. 1 A", "FDA App. 1 F"}},
	{LinkProxyRefused, Medium, Condition, "the proxy does not let this device through to the fleet",
		"The proxy of uplink.proxy answers and opens no connection to the broker: it forbids it (403), wants a password (407), or cannot reach the broker itself (502, 504). Events are kept on the device until the fleet has confirmed them.",
		"Ask the network's administrators to let this device CONNECT through the proxy to the broker's host and port without a password; for 502 and 504, whether the proxy reaches the broker.", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
	{LinkProtocol, Medium, Condition, "the broker does not speak as it must",
		"A server that proved to be the fleet's sent what breaks the protocol or its bounds: another service answers at the broker's address or path, the broker is defective, or it is in other hands. The connection was ended; nothing was believed, and events are kept.",
		"Check the host, the port and, for wss, the path in uplink.brokers; if they are right, report it to the fleet's operator.", []string{"IEC 62443-4-2 CR 3.5", "IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
	{LinkBudgetSpent, Medium, Condition, "the day's budget of the link is spent",
		"More bytes were sent in a day than uplink.daily_bytes allows. Evidence waits; events wait until one of high or critical severity comes, and then go up with it; at twice the budget all wait. Nothing is lost while the journal has room.",
		"See what the device reports so often (wardctl events); if it is in order, raise uplink.daily_bytes.", []string{"IEC 62443-4-2 CR 7.2", "FDA App. 1 G"}},
}
