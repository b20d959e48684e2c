package eventlog

import "fmt"

// EventType is a TCG_EVENTTYPE (Firmware Profile, 10.4.1, table of events).
type EventType uint32

// The event types.
const (
	EVPrebootCert        EventType = 0x00
	EVPostCode           EventType = 0x01
	EVUnused             EventType = 0x02
	EVNoAction           EventType = 0x03
	EVSeparator          EventType = 0x04
	EVAction             EventType = 0x05
	EVEventTag           EventType = 0x06
	EVSCRTMContents      EventType = 0x07
	EVSCRTMVersion       EventType = 0x08
	EVCPUMicrocode       EventType = 0x09
	EVPlatformConfig     EventType = 0x0a
	EVTableOfDevices     EventType = 0x0b
	EVCompactHash        EventType = 0x0c
	EVIPL                EventType = 0x0d
	EVIPLPartitionData   EventType = 0x0e
	EVNonhostCode        EventType = 0x0f
	EVNonhostConfig      EventType = 0x10
	EVNonhostInfo        EventType = 0x11
	EVOmitBootDevice     EventType = 0x12
	EVPostCode2          EventType = 0x13
	EVEFIVariableConfig  EventType = 0x80000001
	EVEFIVariableBoot    EventType = 0x80000002
	EVEFIBootApplication EventType = 0x80000003
	EVEFIBootDriver      EventType = 0x80000004
	EVEFIRuntimeDriver   EventType = 0x80000005
	EVEFIGPT             EventType = 0x80000006
	EVEFIAction          EventType = 0x80000007
	EVEFIFirmwareBlob    EventType = 0x80000008
	EVEFIHandoffTables   EventType = 0x80000009
	EVEFIFirmwareBlob2   EventType = 0x8000000a
	EVEFIHandoffTables2  EventType = 0x8000000b
	EVEFIVariableBoot2   EventType = 0x8000000c
	EVEFIGPT2            EventType = 0x8000000d
	EVEFIHCRTM           EventType = 0x80000010
	EVEFIVariableAuth    EventType = 0x800000e0
	EVEFISPDMBlob        EventType = 0x800000e1
	EVEFISPDMConfig      EventType = 0x800000e2
	EVEFISPDMPolicy      EventType = 0x800000e3
	EVEFISPDMAuthority   EventType = 0x800000e4
)

var typeNames = map[EventType]string{
	EVPrebootCert:        "EV_PREBOOT_CERT",
	EVPostCode:           "EV_POST_CODE",
	EVUnused:             "EV_UNUSED",
	EVNoAction:           "EV_NO_ACTION",
	EVSeparator:          "EV_SEPARATOR",
	EVAction:             "EV_ACTION",
	EVEventTag:           "EV_EVENT_TAG",
	EVSCRTMContents:      "EV_S_CRTM_CONTENTS",
	EVSCRTMVersion:       "EV_S_CRTM_VERSION",
	EVCPUMicrocode:       "EV_CPU_MICROCODE",
	EVPlatformConfig:     "EV_PLATFORM_CONFIG_FLAGS",
	EVTableOfDevices:     "EV_TABLE_OF_DEVICES",
	EVCompactHash:        "EV_COMPACT_HASH",
	EVIPL:                "EV_IPL",
	EVIPLPartitionData:   "EV_IPL_PARTITION_DATA",
	EVNonhostCode:        "EV_NONHOST_CODE",
	EVNonhostConfig:      "EV_NONHOST_CONFIG",
	EVNonhostInfo:        "EV_NONHOST_INFO",
	EVOmitBootDevice:     "EV_OMIT_BOOT_DEVICE_EVENTS",
	EVPostCode2:          "EV_POST_CODE2",
	EVEFIVariableConfig:  "EV_EFI_VARIABLE_DRIVER_CONFIG",
	EVEFIVariableBoot:    "EV_EFI_VARIABLE_BOOT",
	EVEFIBootApplication: "EV_EFI_BOOT_SERVICES_APPLICATION",
	EVEFIBootDriver:      "EV_EFI_BOOT_SERVICES_DRIVER",
	EVEFIRuntimeDriver:   "EV_EFI_RUNTIME_SERVICES_DRIVER",
	EVEFIGPT:             "EV_EFI_GPT_EVENT",
	EVEFIAction:          "EV_EFI_ACTION",
	EVEFIFirmwareBlob:    "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	EVEFIHandoffTables:   "EV_EFI_HANDOFF_TABLES",
	EVEFIFirmwareBlob2:   "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	EVEFIHandoffTables2:  "EV_EFI_HANDOFF_TABLES2",
	EVEFIVariableBoot2:   "EV_EFI_VARIABLE_BOOT2",
	EVEFIGPT2:            "EV_EFI_GPT_EVENT2",
	EVEFIHCRTM:           "EV_EFI_HCRTM_EVENT",
	EVEFIVariableAuth:    "EV_EFI_VARIABLE_AUTHORITY",
	EVEFISPDMBlob:        "EV_EFI_SPDM_FIRMWARE_BLOB",
	EVEFISPDMConfig:      "EV_EFI_SPDM_FIRMWARE_CONFIG",
	EVEFISPDMPolicy:      "EV_EFI_SPDM_DEVICE_POLICY",
	EVEFISPDMAuthority:   "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

// String returns "EV_SEPARATOR" and the like; a type that is not in the
// specification is its number, "0x80000099".
func (t EventType) String() string {
	if n, ok := typeNames[t]; ok {
		return n
	}
	return fmt.Sprintf("0x%08x", uint32(t))
}

// MarshalText writes the type as String does.
func (t EventType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
