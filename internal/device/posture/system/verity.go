package system

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"ward/internal/device/dm"
	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// verityPrefix begins the uuid that veritysetup gives a device.
const verityPrefix = "CRYPT-VERITY-"

// Verity tells each dm-verity device that is there now with what its table said
// when it was read: "ward-root sha256:<root hash> panic_on_corruption". A device
// that came later, or took the place of one that was read, is "ward-root ?": its
// table is the kernel's secret without CAP_SYS_ADMIN. A device in the table whose
// uuid is not veritysetup's counts too.
func Verity(tables []dm.Table, tablesError error) posture.Collector {
	return collector(claim.DMVerity, func(root fs.FS) ([]string, error) {
		devices, err := mappers(root)
		if err != nil {
			return nil, err
		}
		var values []string
		for _, d := range devices {
			ours := func(t dm.Table) bool { return t.Name == d.name && t.Target == "verity" }
			i := slices.IndexFunc(tables, func(t dm.Table) bool { return ours(t) && t.Sequence == d.sequence })
			switch {
			case i >= 0:
				v, err := dm.ParseVerity(tables[i].Params)
				if err != nil {
					return nil, fmt.Errorf("the table of %s: %w", bounded.Word(d.name), err)
				}
				values = append(values, bounded.Word(d.name)+" "+v.String())
			case tablesError != nil && strings.HasPrefix(d.uuid, verityPrefix):
				return nil, fmt.Errorf("the table of %s was not read: %w", bounded.Word(d.name), tablesError)
			case strings.HasPrefix(d.uuid, verityPrefix), slices.ContainsFunc(tables, ours):
				values = append(values, bounded.Word(d.name)+" ?")
			}
		}
		if len(devices) == 0 {
			return nil, errAbsent
		}
		return values, nil
	})
}
