package userlog

import "strings"

// eventType is what systemd measures under one name.
type eventType struct {
	name   string
	prefix string // with which the measured string begins; empty: any
	words  string // for people
}

// eventTypes are systemd's (tpm2-util.c, tpm2_userspace_event_type_table), with
// the strings of "TPM2 PCR Measurements Made by systemd". The string of a phase is
// the phase's own name, of which administrators may add more.
var eventTypes = []eventType{
	{"phase", "", "boot phase"},
	{"filesystem", "file-system:", "file system"},
	{"volume-key", "cryptsetup:", "key of an encrypted volume"},
	{"machine-id", "machine-id:", "machine id"},
	{"product-id", "product-id:", "product id"},
	{"keyslot", "cryptsetup-keyslot:", "key slot of an encrypted volume"},
	{"nvpcr-init", "nvpcr-init:", "begin of a register in NV memory"},
	{"nvpcr-separator", "nvpcr-separator", "end of the begins of registers in NV memory"},
	{"dm-verity", "verity:", "verified image"},
	{"imds-userdata", "", "user data of the cloud"},
	{"os-separator", "", "separator"},
	{"login", "login:", "login of a user"},
	{"credential", "credential:", "credential entered at the boot menu"},
}

// keyed are the event types whose digest is an HMAC: the key is a secret.
var keyed = map[string]bool{"volume-key": true, "credential": true}

func lookup(name string) (eventType, bool) {
	for _, t := range eventTypes {
		if t.name == name {
			return t, true
		}
	}
	return eventType{}, false
}

// typeOf is the event type that a string's begin tells; false: none does.
func typeOf(s string) (eventType, bool) {
	for _, t := range eventTypes {
		if t.prefix != "" && strings.HasPrefix(s, t.prefix) {
			return t, true
		}
	}
	return eventType{}, false
}

// Describe says in a few words what the record is about, without vouching for
// it. Where the string is vouched for it decides, else the event type does.
func (r Record) Describe() string {
	if r.Standing() == Vouched {
		if t, ok := typeOf(*r.String); ok {
			return t.words
		}
	}
	if t, ok := lookup(r.EventType); ok {
		return t.words
	}
	return "unknown event"
}
