package finding

// Codes about enrolment and renewal, about the device's certificate and the store
// that holds it, and about why a server of the fleet was refused.
const (
	IdentityRefused   Code = "identity.enrolment-refused"
	IdentityRenewal   Code = "identity.renewal-failing"
	IdentityRevoked   Code = "identity.revoked"
	IdentityBootState Code = "identity.boot-state"
	IdentityRollback  Code = "identity.rolled-back"
	IdentityOtherTPM  Code = "identity.other-tpm"
	IdentityDamaged   Code = "identity.store-damaged"
	IdentityClock     Code = "identity.clock"

	LinkServerExpired     Code = "link.server-expired"
	LinkServerNotYetValid Code = "link.server-not-yet-valid"
	LinkServerRevoked     Code = "link.server-revoked"
	LinkServerWeak        Code = "link.server-weak"
	LinkServerUsage       Code = "link.server-usage"
	LinkTLSVersion        Code = "link.tls-version"
	LinkCRLStale          Code = "link.crl-stale"
	LinkRegistrar         Code = "link.registrar-unreachable"
)

var identityCodes = []Definition{
	{IdentityRefused, High, Condition, "the registrar refuses to enrol this device",
		"The registrar answered and gave no certificate: it does not know the TPM's maker, the serial number, or another device has this id. The device asks again every few hours.",
		"Read the registrar's reason in the detail; register the device there, or the replaced main board.", []string{"IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 1.4", "FDA App. 1 A"}},
	{IdentityRenewal, Medium, Condition, "the device's certificate is due for renewal and is not renewed",
		"The certificate still works. No new one was issued, or the fleet refuses the new one; the old one is used until it expires.",
		"Read the reason in the detail; check that the registrar can be reached and that the broker accepts its certificates.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{IdentityRevoked, High, Condition, "the device's own certificate was revoked",
		"The fleet's revocation list names this device's certificate. The broker and other servers will refuse it; the device keeps its record and works on.",
		"Ask the fleet's operator why; if the device is in order, enrol it again.", []string{"IEC 62443-4-2 CR 1.8", "IEC 62443-4-2 CR 1.4", "FDA App. 1 A"}},
	{IdentityBootState, Medium, Condition, "the clinical identity is shut: the boot state is not approved",
		"The TPM does not sign with the service key, because the manufacturer approved no boot state like this one, or only for an older release. Reporting to the fleet goes on.",
		"Read the findings about the boot; boot the release that the manufacturer signed.", []string{"IEC 62443-4-2 CR 1.5", "IEC 62443-4-2 EDR 3.14", "FDA App. 1 A", "FDA App. 1 D"}},
	{IdentityRollback, High, Condition, "the clinical identity is shut: the release is older than one that ran here",
		"The TPM's rollback counter has passed this release, so the service key does not sign. Reporting to the fleet goes on.",
		"Install the newest release.", []string{"IEC 62443-4-2 EDR 3.10", "IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{IdentityOtherTPM, High, Condition, "the identity's keys belong to another TPM",
		"The TPM cannot load the keys of the state partition: it was replaced or cleared, or the disk comes from another device.",
		"Find out why; then manufacture and enrol the device anew, and have the fleet record the replacement.", []string{"IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 1.9", "FDA App. 1 A"}},
	{IdentityDamaged, Medium, Condition, "a file of the identity cannot be read",
		"A file in the identity folder of the state partition is cut short or altered. What is whole is used; a key or certificate that is lost is made anew when the registrar can be reached.",
		"Check the state partition's disk; enrol the device again if it has no certificate.", []string{"IEC 62443-4-2 CR 3.4", "FDA App. 1 D"}},
	{IdentityClock, Low, Condition, "the device's clock is behind a moment that is proved",
		"The clock shows a time before the release was built, a certificate was issued or the fleet confirmed a record. Certificates are judged by the proved moment.",
		"Set the device's clock; replace its battery if it comes back.", []string{"IEC 62443-4-2 CR 2.11", "FDA App. 1 F"}},
	{LinkServerExpired, High, Condition, "the server's certificate has expired",
		"The certificate of the broker or the registrar has expired, or this device's clock is ahead. The connection was refused.",
		"Have the server's certificate renewed; check the device's clock.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{LinkServerNotYetValid, High, Condition, "the server's certificate is not valid yet",
		"The certificate of the broker or the registrar begins later than this device's time. The connection was refused.",
		"Check the device's clock and the begin of the server's certificate.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{LinkServerRevoked, High, Condition, "the server's certificate was revoked",
		"The fleet's revocation list names the certificate of the broker or the registrar, or of the authority that issued it. The connection was refused.",
		"Have the server given a new certificate; report it if nobody revoked it on purpose.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{LinkServerWeak, High, Condition, "the server's certificate is too weak",
		"The certificate of the broker or the registrar, or one above it, has a key or a signature that can be forged: RSA below 2048 bits, a curve other than P-256 and P-384, SHA-1 or MD5. The connection was refused.",
		"Have the server given a certificate with a P-256 key and SHA-256.", []string{"IEC 62443-4-2 CR 4.3", "IEC 62443-4-2 CR 1.8", "FDA App. 1 A", "FDA App. 1 C"}},
	{LinkServerUsage, High, Condition, "the server's certificate is not for a server",
		"The certificate is the fleet's, but for clients or another purpose: a device or a program stands where the server should. The connection was refused.",
		"Check the server's certificate; if it is a device's own, report it to the manufacturer.", []string{"IEC 62443-4-2 CR 1.8", "IEC 62443-4-2 CR 3.1", "FDA App. 1 A", "FDA App. 1 D"}},
	{LinkTLSVersion, High, Condition, "the server does not speak TLS 1.3",
		"The server, or something between, speaks an older version of TLS only. The connection was refused: nothing falls back to less.",
		"Update or reconfigure the server; check for a proxy that opens TLS connections.", []string{"IEC 62443-4-2 CR 4.3", "IEC 62443-4-2 CR 3.1", "FDA App. 1 C", "FDA App. 1 D"}},
	{LinkCRLStale, Medium, Condition, "the revocation list is out of date or cannot be used",
		"The fleet's list of revoked certificates is past its next update, or its signature is not the fleet's. The device connects all the same, judged by the last good list: a server that was revoked since is not noticed.",
		"Check that the registrar can be reached and that it publishes its list.", []string{"IEC 62443-4-2 CR 1.8", "FDA App. 1 A"}},
	{LinkRegistrar, Medium, Condition, "the registrar cannot be reached",
		"The device has something to ask of the registrar (a certificate, a revocation list) and gets no answer. It asks again, less and less often.",
		"Check the network, the configured address of the registrar, and the hospital's firewall.", []string{"IEC 62443-4-2 CR 7.1", "FDA App. 1 G"}},
}
