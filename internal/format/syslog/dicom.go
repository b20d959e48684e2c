package syslog

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// msgidDICOM names the message's form in the header (PS3.15, A.6).
const msgidDICOM = "DICOM+RFC3881"

// code is a coded value: of DICOM's own terminology (PS3.16, Annex D), or of RFC
// 3881.
type code struct{ value, system, meaning string }

var (
	securityAlert   = code{"110113", "DCM", "Security Alert"}
	application     = code{"110150", "DCM", "Application"}
	nodeID          = code{"110182", "DCM", "Node ID"}
	nodeAuth        = code{"110126", "DCM", "Node Authentication"}
	network         = code{"110128", "DCM", "Network Configuration"}
	security        = code{"110129", "DCM", "Security Configuration"}
	hardware        = code{"110130", "DCM", "Hardware Configuration"}
	software        = code{"110131", "DCM", "Software Configuration"}
	restricted      = code{"110132", "DCM", "Use of Restricted Function"}
	recordingStops  = code{"110133", "DCM", "Audit Recording Stopped"}
	uri             = code{"12", "RFC-3881", "URI"}
	recordingBegins = code{"110134", "DCM", "Audit Recording Started"}
)

// alertTypes say which kind of alert (PS3.16, CID 403) an event is, by the begin of
// its finding's code or of its type without "ward."; the first that fits counts.
var alertTypes = []struct {
	begin string
	code  code
}{
	{"boot.secure-boot", security},
	{"boot.quote", nodeAuth},
	{"boot.evidence", nodeAuth},
	{"boot", software},
	{"ima", software},
	{"update", software},
	{"tpm", hardware},
	{"identity.used", restricted},
	{"identity", nodeAuth},
	{"link.server", nodeAuth},
	{"link.tls", nodeAuth},
	{"link.crl", nodeAuth},
	{"link.refused", nodeAuth},
	{"link.sink-untrusted", nodeAuth},
	{"link.sink-refused", nodeAuth},
	{"link", network},
	{"journal.write-failing", recordingStops},
	{"daemon.stopped", recordingStops},
	{"device.decommissioned", recordingStops},
	{"sink", recordingStops},
	{"daemon.started", recordingBegins},
}

// alertType is the kind of alert; what nothing fits is the security configuration.
func (e Event) alertType() code {
	key := e.Code
	if key == "" {
		key = strings.TrimPrefix(e.Type, "ward.")
	}
	for _, t := range alertTypes {
		if strings.HasPrefix(key, t.begin) {
			if e.Over && t.code == recordingStops {
				return recordingBegins
			}
			return t.code
		}
	}
	return security
}

// outcome is the EventOutcomeIndicator: success for what only informs, a minor or
// serious failure where the device's measures still hold, a major one where they may
// not.
func (e Event) outcome() string {
	switch {
	case e.Over, e.Severity == Info:
		return "0"
	case e.Severity == Low, e.Severity == Medium:
		return "4"
	case e.Severity == High:
		return "8"
	}
	return "12"
}

// dicomPriority is 5 for most messages and 4 for warnings (PS3.15, A.6).
func (e Event) dicomPriority() int {
	if e.outcome() == "0" || e.Severity == Low {
		return 5
	}
	return 4
}

// DICOM writes an event as the audit message "Security Alert" (PS3.15, A.5.3.11), in
// the XML of A.5.1, as the message of RFC 5424. What the event says beyond the
// message's own fields are details of the node, each by its name in Base64; a file
// is an object of its own.
func DICOM(o Origin, e Event) []byte {
	b := header(make([]byte, 0, 4096), o, e, e.dicomPriority(), msgidDICOM)
	x := xml{append(b, "- "+bom...)}
	x.raw(`<?xml version="1.0" encoding="UTF-8"?><AuditMessage>`)
	x.raw(`<EventIdentification EventActionCode="E"`)
	when := e.Time
	if t := moment(when); t == "" || t == "-" {
		when = time.Unix(0, 0) // the field must be there, as xs:dateTime
	}
	x.attribute("EventDateTime", moment(when), maxName)
	x.attribute("EventOutcomeIndicator", e.outcome(), maxName)
	x.raw(">")
	x.coded("EventID", securityAlert)
	x.coded("EventTypeCode", e.alertType())
	x.raw("<EventOutcomeDescription>")
	x.b = appendText(x.b, e.headline(), maxHeadline, inXML)
	x.raw("</EventOutcomeDescription></EventIdentification>")

	x.raw("<ActiveParticipant")
	x.attribute("UserID", programName, maxName)
	x.attribute("AlternativeUserID", e.Boot, maxName)
	x.raw(` UserIsRequestor="false"`)
	x.attribute("NetworkAccessPointID", o.Device, maxName)
	x.raw(` NetworkAccessPointTypeCode="1">`)
	x.coded("RoleIDCode", application)
	x.raw("</ActiveParticipant>")

	x.raw("<AuditSourceIdentification")
	x.attribute("AuditEnterpriseSiteID", o.Tenant, maxName)
	x.attribute("AuditSourceID", o.Device, maxName)
	x.raw(`><AuditSourceTypeCode csd-code="9"/></AuditSourceIdentification>`)

	x.object(o.Device+"@"+o.Tenant, maxID, 13, nodeID)
	x.detail("Alert Description", e.headline(), maxDetail)
	x.detail("id", e.ID, maxID)
	x.detail("epoch", number(e.Epoch), maxName)
	x.detail("sequence", number(e.Sequence), maxName)
	x.detail("type", e.Type, maxType)
	x.detail("code", e.Code, maxType)
	x.detail("severity", e.Severity.String(), maxType)
	x.detail("subject", e.Subject, maxSubject)
	x.detail("boot", e.Boot, maxName)
	x.detail("prev", e.Prev, maxHash)
	x.detail("hash", e.Hash, maxHash)
	x.detail("place", e.Place, maxPlace)
	x.detail("expected", e.Expected, maxValue)
	x.detail("found", e.Found, maxValue)
	x.detail("remedy", e.Remedy, maxRemedy)
	if e.Repeated > 0 {
		x.detail("repeated", strconv.Itoa(e.Repeated), maxName)
		x.detail("first", moment(e.First), maxName)
		x.detail("last", moment(e.Last), maxName)
	}
	x.raw("</ParticipantObjectIdentification>")
	if e.Path != "" {
		x.object(fileURI(e.Path), maxURI, 5, uri)
		x.detail("Alert Description", e.title(), maxTitle)
		x.raw("</ParticipantObjectIdentification>")
	}
	x.raw("</AuditMessage>")
	return x.b
}

// fileURI is a path as an URI (RFC 8089), cut at its bound between two characters.
func fileURI(path string) string {
	const digits = "0123456789ABCDEF"
	b := []byte("file://")
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
		if len(b) > maxURI-3 {
			break
		}
	}
	return string(b)
}

// xml writes elements and attributes with fixed names.
type xml struct{ b []byte }

func (x *xml) raw(s string) { x.b = append(x.b, s...) }

func (x *xml) attribute(name, value string, limit int) {
	if value == "" {
		return
	}
	x.raw(" " + name + `="`)
	x.b = appendText(x.b, value, limit, inXML)
	x.raw(`"`)
}

func (x *xml) coded(element string, c code) {
	x.raw("<" + element + ` csd-code="` + c.value + `" codeSystemName="` + c.system + `" originalText="` + c.meaning + `"/>`)
}

// object begins a ParticipantObjectIdentification of a system object (type 2).
func (x *xml) object(id string, limit, role int, kind code) {
	x.raw("<ParticipantObjectIdentification")
	x.attribute("ParticipantObjectID", id, limit)
	x.raw(` ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="` + strconv.Itoa(role) + `">`)
	x.coded("ParticipantObjectIDTypeCode", kind)
}

// detail writes a text in Base64, as the schema demands of details.
func (x *xml) detail(kind, value string, limit int) {
	if value == "" {
		return
	}
	text := appendText(nil, value, limit, plain)
	x.raw(`<ParticipantObjectDetail type="` + kind + `" value="`)
	x.b = base64.StdEncoding.AppendEncode(x.b, text)
	x.raw(`"/>`)
}
