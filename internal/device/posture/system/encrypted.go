package system

import (
	"io/fs"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// cryptPrefix begins the uuid that cryptsetup gives a device: CRYPT, the form of
// its header, the header's own uuid, the device's name.
const cryptPrefix = "CRYPT-"

// Encrypted tells each device that is open through dm-crypt with the form of its
// header: "ward-data LUKS2". One that other tools made has no form and is not told.
func Encrypted() posture.Collector {
	return collector(claim.Encrypted, func(root fs.FS) ([]string, error) {
		devices, err := mappers(root)
		if err != nil {
			return nil, err
		}
		if len(devices) == 0 {
			return nil, errAbsent
		}
		var values []string
		for _, d := range devices {
			rest, ok := strings.CutPrefix(d.uuid, cryptPrefix)
			if form, _, _ := strings.Cut(rest, "-"); ok && form != "VERITY" && form != "INTEGRITY" {
				values = append(values, bounded.Word(d.name)+" "+bounded.Word(form))
			}
		}
		return values, nil
	})
}
