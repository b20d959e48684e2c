package finding

// Codes about the sinks beside the fleet: syslog servers of the hospital.
const (
	LinkSinkDown      Code = "link.sink-down"
	LinkSinkUntrusted Code = "link.sink-untrusted"
	LinkSinkRefused   Code = "link.sink-refused"
	LinkSinkGap       Code = "link.sink-gap"
)

var sinkCodes = []Definition{
	{LinkSinkDown, Medium, Condition, "a syslog server cannot be reached",
		"No connection to a configured syslog server. Events stay in the record and are sent later; the fleet gets them all the same. What is recycled before is not sent to this server, which is told how much that was.",
		"Check the network, the address in forward.sinks and the hospital's firewall (port 6514).", []string{"IEC 62443-4-2 CR 6.1", "FDA App. 1 F"}},
	{LinkSinkUntrusted, High, Condition, "a syslog server is not trusted",
		"The syslog server's certificate does not lead to the anchors in trust/syslog, or is expired, weak, for another name or of an older TLS than 1.3; or the anchors cannot be read. Nothing was sent to it.",
		"Check the server's certificate, the name behind # in forward.sinks, and the anchors in the image; check for a proxy that opens TLS connections.", []string{"IEC 62443-4-2 CR 1.8", "IEC 62443-4-2 CR 3.1", "FDA App. 1 A", "FDA App. 1 D"}},
	{LinkSinkRefused, High, Condition, "a syslog server refuses this device",
		"The syslog server ended the connection when the device showed its certificate: it does not know the fleet's authority, does not permit this device's name, or holds its certificate for revoked.",
		"Give the syslog server the fleet's authority for client certificates and permit the device's name there.", []string{"IEC 62443-4-2 CR 1.2", "FDA App. 1 A"}},
	{LinkSinkGap, Medium, Incident, "a syslog server did not get every event",
		"The record had let events go, which the fleet has confirmed, before they could be sent to this syslog server. The server was told which they are.",
		"Restore the connection to the syslog server; ask the fleet for the events.", []string{"IEC 62443-4-2 CR 2.9", "FDA App. 1 F"}},
}
