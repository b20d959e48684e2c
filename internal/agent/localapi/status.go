package localapi

import (
	"encoding/json"
	"time"

	"ward/internal/trust/finding"
)

// Status is the device at this moment, as GET /v1/status gives it.
type Status struct {
	Version   string            `json:"version"` // of wardd
	Started   time.Time         `json:"started"` // wall clock, for people
	UptimeMS  int64             `json:"uptimeMs"`
	Boot      string            `json:"boot"`
	Tenant    string            `json:"tenant"`
	Device    string            `json:"device"`
	Mode      string            `json:"mode"` // "enforcing" judges, "bring-up" only reports
	Release   Release           `json:"release"`
	Verdict   Verdict           `json:"verdict"`
	Journal   Journal           `json:"journal"`
	Link      Link              `json:"link"`
	Sinks     []Sink            `json:"sinks"` // syslog servers that get every event too
	Watch     Watch             `json:"watch"`
	Identity  Identity          `json:"identity"`
	Update    Update            `json:"update"`
	Volumes   []Volume          `json:"volumes"` // as the early boot left them; empty: it left no report
	Access    Access            `json:"access"`  // who works on it
	Devices   []Device          `json:"devices"` // what is plugged in
	Roles     []Role            `json:"roles"`
	Blind     []string          `json:"blind,omitempty"` // what this device cannot see of itself, and why
	Findings  []Condition       `json:"findings"`        // conditions that hold
	Incidents []finding.Finding `json:"incidents"`       // of this boot
	Memory    Memory            `json:"memory"`
	Scan      *Scan             `json:"scan,omitempty"` // of the files against the release
}

// Condition is a finding that lasts.
type Condition struct {
	finding.Finding
	Subject      string           `json:"subject,omitempty"` // what tells it from others of its code
	Acknowledged *Acknowledgement `json:"acknowledged,omitempty"`
}

// Acknowledgement says that somebody at the device has seen a condition.
type Acknowledgement struct {
	Time time.Time `json:"time"` // wall clock, for people
	By   string    `json:"by"`   // the role: "root", "service"
}

// Volume is one encrypted volume of the device.
type Volume struct {
	Name   string `json:"name"` // "state" is Ward's, "data" the medical application's
	Opened bool   `json:"opened"`
	Cause  string `json:"cause,omitempty"` // why not, in one word
	Detail string `json:"detail,omitempty"`
}

// Release is the signed release that the device is judged against.
type Release struct {
	Product  string `json:"product,omitempty"`
	Board    string `json:"board,omitempty"`
	Version  string `json:"version,omitempty"`
	Digest   string `json:"digest,omitempty"` // SHA-256 of the manifest
	Verified bool   `json:"verified"`
	Reason   string `json:"reason,omitempty"` // why not
}

// Verdict is the appraisal of this boot.
type Verdict struct {
	Tier       string            `json:"tier"` // none, affirming, warning, contraindicated
	Claims     map[string]string `json:"claims,omitempty"`
	Events     int               `json:"events"`
	IMAEntries int               `json:"imaEntries"`
	PCRs       json.RawMessage   `json:"pcrs,omitempty"`
	TookMS     float64           `json:"tookMs"`           // from the daemon's start, the TPM's time excluded
	TPMMS      float64           `json:"tpmMs"`            // the TPM's share
	Reason     string            `json:"reason,omitempty"` // why there is none yet
}

// Journal is the record's state.
type Journal struct {
	Epoch        uint64 `json:"epoch"`
	Sequence     uint64 `json:"sequence"`
	Durable      uint64 `json:"durable"`
	Acknowledged uint64 `json:"acknowledged"` // confirmed by the fleet
	Head         string `json:"head"`
	Bytes        int64  `json:"bytes"`
	MaxBytes     int64  `json:"maxBytes"`
	Unconfirmed  int64  `json:"unconfirmed"` // bytes of what the fleet has not confirmed
	Lost         int    `json:"lost"`
	Error        string `json:"error,omitempty"`
	Memory       bool   `json:"memory,omitempty"` // it is kept in memory only, and ends with the daemon
	Flash        Flash  `json:"flash"`

	Anchor *Anchor `json:"anchor,omitempty"`
}

// Flash is what Ward writes, by days of running.
type Flash struct {
	Today          int64 `json:"today"`          // bytes
	ElapsedSeconds int64 `json:"elapsedSeconds"` // of the present day
	Before         int64 `json:"before"`         // bytes on the day before
	Total          int64 `json:"total"`          // bytes, ever
	Budget         int64 `json:"budget"`         // bytes a day
}

// Link is the connection to the fleet.
type Link struct {
	State        string     `json:"state"` // connected, connecting, no-identity, stopped, off
	Broker       string     `json:"broker,omitempty"`
	Since        time.Time  `json:"since"`
	Session      uint64     `json:"session"`
	LastReceipt  *time.Time `json:"lastReceipt,omitempty"`
	LastEvidence *time.Time `json:"lastEvidence,omitempty"`
	SentToday    uint64     `json:"sentToday"`  // bytes since the budget's day began
	DailyBytes   uint64     `json:"dailyBytes"` // the budget, 0 without a link
	Error        string     `json:"error,omitempty"`
}

// Sink is one syslog server beside the fleet.
type Sink struct {
	Name    string    `json:"name"`
	State   string    `json:"state"` // connected, connecting, no-identity, stopped
	Since   time.Time `json:"since"`
	Sent    uint64    `json:"sent"`    // last record that was written to it
	Cursor  uint64    `json:"cursor"`  // last record that no end of the connection takes back
	Behind  uint64    `json:"behind"`  // records that were not written yet
	Skipped uint64    `json:"skipped"` // records that it did not get, since the daemon's start
	Error   string    `json:"error,omitempty"`
}

// Role is one part of the daemon.
type Role struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Progress time.Time `json:"progress"`
	Detail   string    `json:"detail,omitempty"`
}

// Memory is what the daemon takes.
type Memory struct {
	ResidentKiB int64 `json:"residentKiB"`
}

// Events is what GET /v1/events gives: records as they lie in the journal.
type Events struct {
	Events []json.RawMessage `json:"events"`
	Next   uint64            `json:"next"` // the cursor to go on from
}
