package posture

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"ward/internal/trust/posture"
)

// Chip is what a TPM says of itself: TPM_PT_MANUFACTURER as four characters, "IFX"
// without what fills it up, and TPM_PT_FIRMWARE_VERSION_1 and _2 (TPM 2.0 Library
// Specification, Part 2, section 6.13).
type Chip struct {
	Maker    string
	Firmware [2]uint32
}

// major and minor are the first part of the firmware's version as makers write it.
func (c Chip) major() uint32 { return c.Firmware[0] >> 16 }
func (c Chip) minor() uint32 { return c.Firmware[0] & 0xffff }

// TPM are the collectors of the TPM's maker and firmware and of its known
// weaknesses. ask asks the TPM; an error of it that wraps fs.ErrNotExist says that
// there is none. It may remember its answer: neither changes within a boot.
func TPM(ask func() (Chip, error)) []Collector {
	return []Collector{
		claim(posture.TPMFirmware, func(fs.FS) ([]string, error) {
			chip, err := ask()
			return []string{"maker " + chip.Maker, fmt.Sprintf("firmware %d.%d.%d.%d",
				chip.major(), chip.minor(), chip.Firmware[1]>>16, chip.Firmware[1]&0xffff)}, err
		}),
		claim(posture.TPMWeakness, func(fs.FS) ([]string, error) {
			chip, err := ask()
			return weaknesses(chip), err
		}),
	}
}

// weak are the published weaknesses that maker and firmware tell. CVE-2023-1017 and
// CVE-2023-1018 are weaknesses of the reference code, and CVE-2019-11090 (TPM-Fail
// in Intel's firmware TPM) one of a firmware whose version the TPM does not tell:
// nobody publishes versions of TPMs for them, so they are not judged.
var weak = [...]struct {
	name, maker string
	has         func(major, minor uint32) bool
}{
	// Weak RSA keys; keys on curves, Ward's own, are not concerned. Infineon's
	// versions, as Microsoft's ADV170012 lists them.
	{"ROCA CVE-2017-15361", "IFX", func(major, minor uint32) bool {
		switch major {
		case 4:
			return minor <= 33 || minor >= 40 && minor <= 42
		case 5:
			return minor <= 61
		case 6:
			return minor <= 42
		case 7:
			return minor <= 61
		case 133:
			return minor <= 32
		}
		return false
	}},
	// Signing time betrays keys on curves. STMicroelectronics' list of firmware.
	{"TPM-Fail CVE-2019-16863", "STM", func(major, minor uint32) bool {
		versions := map[uint32][]uint32{71: {0, 4, 12}, 73: {0, 4, 5, 8, 9}, 74: {0, 4, 5, 8, 9, 16}}
		return slices.Contains(versions[major], minor)
	}},
}

func weaknesses(c Chip) []string {
	var out []string
	for _, w := range weak {
		if strings.TrimSpace(c.Maker) == w.maker && w.has(c.major(), c.minor()) {
			out = append(out, w.name+" in firmware "+strconv.Itoa(int(c.major()))+"."+strconv.Itoa(int(c.minor())))
		}
	}
	return out
}
