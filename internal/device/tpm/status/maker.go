package status

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/device/tpm/link"
)

// Maker is who made the TPM and which firmware it runs (TPM 2.0 Library
// Specification, Part 2, section 6.13; TCG TPM Vendor ID Registry). Neither
// changes while the device is on.
type Maker struct {
	Name     string    // of the registry without what fills it up: "IFX", "STM", "IBM"
	Firmware [2]uint32 // TPM_PT_FIRMWARE_VERSION_1 and _2
}

// ReadMaker asks the TPM.
func ReadMaker(c *link.Channel) (Maker, error) {
	const properties = 16 // from the maker to the second half of the version
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTManufacturer), PropertyCount: properties,
	}.Execute(c)
	if err != nil {
		return Maker{}, err
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return Maker{}, fmt.Errorf("%w: %w", link.ErrResponse, err)
	}
	var m Maker
	for _, p := range list.TPMProperty {
		switch p.Property {
		case tpm2.TPMPTManufacturer:
			m.Name = strings.TrimRight(string(binary.BigEndian.AppendUint32(nil, p.Value)), "\x00 ")
		case tpm2.TPMPTFirmwareVersion1:
			m.Firmware[0] = p.Value
		case tpm2.TPMPTFirmwareVersion2:
			m.Firmware[1] = p.Value
		}
	}
	if m.Name == "" {
		return Maker{}, fmt.Errorf("%w: no maker among %d properties", link.ErrResponse, len(list.TPMProperty))
	}
	return m, nil
}
