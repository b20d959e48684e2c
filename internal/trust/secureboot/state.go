package secureboot

import (
	"strconv"
	"strings"

	"ward/internal/format/bootevent"
)

// State is how Secure Boot stood, as far as the log shows it. The zero value
// says that nothing is known; so does each part by itself.
type State struct {
	Enabled      Switch `json:"secureBoot"`
	SetupMode    Switch `json:"setupMode"` // no PK is enrolled: anybody can enrol keys
	AuditMode    Switch `json:"auditMode"` // refusals are only noted; few firmware versions measure it
	DeployedMode Switch `json:"deployedMode"`
	Debugger     Switch `json:"debugger"` // the firmware may be debugged; never off, as only its being on is measured

	PK  Keys `json:"pk"`
	KEK Keys `json:"kek"`
	DB  Keys `json:"db"`
	DBX Keys `json:"dbx"`
	DBT Keys `json:"dbt"`
	DBR Keys `json:"dbr"`

	Authorities []Authority `json:"authorities,omitempty"` // what let images start, in the log's order
	Shim        Shim        `json:"shim"`

	Problems    []Problem `json:"problems,omitempty"`    // why a part is not known
	Unexplained []int     `json:"unexplained,omitempty"` // events behind the separator that do not say what was measured
}

// Switch is something that is on or off, if it was measured.
type Switch struct {
	Measured bool `json:"measured"`
	On       bool `json:"on"`
	Event    int  `json:"event"` // index in the log
}

// String is "on", "off" or "unknown".
func (s Switch) String() string {
	switch {
	case !s.Measured:
		return "unknown"
	case s.On:
		return "on"
	}
	return "off"
}

// Keys is the content of a variable, if it was measured.
type Keys struct {
	Measured bool            `json:"measured"`
	Event    int             `json:"event"` // index in the log
	Keys     []bootevent.Key `json:"keys,omitempty"`
}

// Authority is a key that let an image start.
type Authority struct {
	Event    int           `json:"event"`    // index in the log
	Variable string        `json:"variable"` // "db", "Shim", "MokList"
	Driver   bool          `json:"driver"`   // before the separator: a driver or option ROM
	Key      bootevent.Key `json:"key"`
}

// Shim is what shim measured of itself. It counts as far as the authorities let
// nothing but a good shim start.
type Shim struct {
	Insecure    Switch `json:"insecure"`    // MokSBState: shim verifies nothing
	ListTrusted Switch `json:"listTrusted"` // MokListTrusted: the kernel trusts the machine owner's keys
	SBAT        SBAT   `json:"sbat"`
}

// SBAT is the level below which shim starts nothing (shim's SBAT.md).
type SBAT struct {
	Measured bool   `json:"measured"`
	Event    int    `json:"event"`
	Date     string `json:"date"` // "2022052400"
}

// Problem is why something is not known.
type Problem struct {
	Event  int    `json:"event"` // index in the log; -1: the log as a whole
	Detail string `json:"detail"`
}

// parseSBAT reads the date in the first line, "sbat,1,2022052400".
func parseSBAT(b []byte) (date string, ok bool) {
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Split(strings.TrimRight(line, "\x00\r"), ",")
	if len(fields) != 3 || fields[0] != "sbat" || !isDate(fields[2]) {
		return "", false
	}
	return fields[2], true
}

// isDate tells a date of ten digits, the last two a count.
func isDate(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil && len(s) == len("2022052400")
}
