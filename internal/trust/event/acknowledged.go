package event

import (
	"encoding/json"
	"fmt"
)

// FindingAcknowledged is the type of an event: somebody at the device has seen a
// condition, which holds on.
const FindingAcknowledged = "ward.finding.acknowledged"

// Roles of who acknowledges a condition at the device. No name and no number of a
// person is recorded: who was on duty the hospital knows.
const (
	ByRoot    = "root"    // the device's superuser
	ByService = "service" // a member of the group that may read Ward's state: the service technician, the host application
)

// Acknowledgement is the report of a ward.finding.acknowledged event, beside the
// condition as it was raised last.
type Acknowledgement struct {
	By string `json:"by"` // ByRoot or ByService
}

// Encode writes the report; it always encodes.
func (a Acknowledgement) Encode() json.RawMessage {
	b, err := json.Marshal(a)
	if err != nil {
		panic("event: encode acknowledgement: " + err.Error())
	}
	return b
}

// ParseAcknowledgement reads the report. Keys and roles that this version does
// not know are no error.
func ParseAcknowledgement(report json.RawMessage) (Acknowledgement, error) {
	var a Acknowledgement
	if err := json.Unmarshal(report, &a); err != nil {
		return Acknowledgement{}, fmt.Errorf("parse acknowledgement: %w", err)
	}
	return a, nil
}
