package syslog

import "strings"

// Codes of DICOM's terminology for kinds of alert (PS3.16, CID 403).
var (
	nodeAuth        = alert{"110126", "Node Authentication"}
	emergency       = alert{"110127", "Emergency Override Started"}
	network         = alert{"110128", "Network Configuration"}
	security        = alert{"110129", "Security Configuration"}
	hardware        = alert{"110130", "Hardware Configuration"}
	software        = alert{"110131", "Software Configuration"}
	restricted      = alert{"110132", "Use of Restricted Function"}
	recordingStops  = alert{"110133", "Audit Recording Stopped"}
	recordingBegins = alert{"110134", "Audit Recording Started"}
)

type alert struct{ code, meaning string }

// alertTypes say which kind of alert an event is, by the begin of its finding's code
// or of its type without "ward."; the first that fits counts.
var alertTypes = [...]struct {
	begin string
	alert *alert
}{
	{"boot.secure-boot", &security}, {"boot.quote", &nodeAuth}, {"boot.evidence", &nodeAuth}, {"boot", &software},
	{"ima", &software}, {"update", &software}, {"tpm", &hardware},
	{"identity.used", &restricted}, {"identity", &nodeAuth},
	{"link.server", &nodeAuth}, {"link.tls", &nodeAuth}, {"link.crl", &nodeAuth}, {"link.refused", &nodeAuth},
	{"link.sink-untrusted", &nodeAuth}, {"link.sink-refused", &nodeAuth}, {"link", &network},
	{"journal.write-failing", &recordingStops}, {"daemon.stopped", &recordingStops}, {"device.decommissioned", &recordingStops}, {"sink", &recordingStops},
	{"daemon.started", &recordingBegins},
	{"access.break-glass", &emergency}, {"access", &restricted}, {"network", &network},
	{"device", &hardware}, {"usb", &hardware}, {"serial", &hardware}, {"hotplug", &hardware}, {"storage", &software},
}

// alertType is the kind of alert; what nothing fits is the security configuration.
func (m *message) alertType() *alert {
	key := strings.TrimPrefix(m.value("signature"), "ward.")
	for i := range alertTypes {
		t := &alertTypes[i]
		if strings.HasPrefix(key, t.begin) {
			if m.Over && t.alert == &recordingStops {
				return &recordingBegins
			}
			return t.alert
		}
	}
	return &security
}

// outcomes are the EventOutcomeIndicator by rank: success for what only informs or
// is over, a minor or serious failure where the device's measures still hold, a
// major one where they may not.
var outcomes = [...]string{"0", "0", "4", "4", "8", "12"}

// dicomPriorities are 5 for most messages and 4 for warnings (PS3.15, A.6).
var dicomPriorities = [...]uint8{5, 5, 5, 4, 4, 4}

// The message's parts that are the same in every one (PS3.15, A.5.1).
const (
	msgidDICOM = "DICOM+RFC3881"
	dicomBegin = `<?xml version="1.0" encoding="UTF-8"?><AuditMessage>` +
		`<EventIdentification EventActionCode="E" EventDateTime="{moment}" EventOutcomeIndicator="{outcome}">` +
		`<EventID csd-code="110113" codeSystemName="DCM" originalText="Security Alert"/>` +
		`<EventTypeCode csd-code="{alert}" codeSystemName="DCM" originalText="{meaning}"/>` +
		`<EventOutcomeDescription>{headline}</EventOutcomeDescription></EventIdentification>` +
		`<ActiveParticipant UserID="wardd" AlternativeUserID="{boot}" UserIsRequestor="false" NetworkAccessPointID="{device}" NetworkAccessPointTypeCode="1">` +
		`<RoleIDCode csd-code="110150" codeSystemName="DCM" originalText="Application"/></ActiveParticipant>` +
		`<AuditSourceIdentification AuditEnterpriseSiteID="{tenant}" AuditSourceID="{device}"><AuditSourceTypeCode csd-code="9"/></AuditSourceIdentification>` +
		`<ParticipantObjectIdentification ParticipantObjectID="{node}" ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="13">` +
		`<ParticipantObjectIDTypeCode csd-code="110182" codeSystemName="DCM" originalText="Node ID"/>` +
		`<ParticipantObjectDetail type="Alert Description" value="{{headline}}"/>`
	dicomEnd  = `</ParticipantObjectIdentification>`
	dicomFile = `<ParticipantObjectIdentification ParticipantObjectID="{file}" ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="5">` +
		`<ParticipantObjectIDTypeCode csd-code="12" codeSystemName="RFC-3881" originalText="URI"/>` +
		`<ParticipantObjectDetail type="Alert Description" value="{{title}}"/>` + dicomEnd
)

// DICOM writes an event as the audit message "Security Alert" (PS3.15, A.5.3.11), in
// the XML of A.5.1, as the message of RFC 5424. What the event says beyond the
// message's own fields are details of the node, each by its name in Base64; a file
// is an object of its own. Detail and report stand in the alert's description.
func DICOM(o Origin, e *Event) []byte {
	m := &message{Origin: o, Event: e}
	m.header(dicomPriorities[m.rank()], msgidDICOM)
	m.raw("- " + bom)
	m.expand(dicomBegin, inXML)
	for i := range e.fields {
		f := &e.fields[i]
		if f.name != "path" && f.name != "detail" && f.name != "report" {
			m.raw(`<ParticipantObjectDetail type="` + f.name + `" value="`)
			m.base64(f.value, limit(f.name))
			m.raw(`"/>`)
		}
	}
	m.raw(dicomEnd)
	if m.Said("path") != "" {
		m.expand(dicomFile, inXML)
	}
	m.raw("</AuditMessage>")
	return m.b
}

// fileURI is a path as an URI (RFC 8089), no longer than a URI may be here: it is
// cut between two bytes of the path.
func fileURI(path string) string {
	const digits = "0123456789ABCDEF"
	b := []byte("file://")
	for i := 0; i < len(path) && len(b) <= limit("file")-3; i++ {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}
