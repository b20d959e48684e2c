package system

import (
	"io/fs"
	"strconv"
	"strings"

	"ward/internal/device/posture/bounded"
)

// mapped is a device of the device mapper as sysfs shows it.
type mapped struct {
	name, uuid string
	sequence   uint64 // of the disk: another one is another device; 0: the kernel does not say
}

// maxDisks bounds block devices.
const maxDisks = 4096

// mappers lists the devices of the device mapper; none where the kernel has no block
// devices.
func mappers(root fs.FS) ([]mapped, error) {
	list, err := bounded.Entries(root, "sys/block", maxDisks)
	if err != nil && !bounded.Absent(err) {
		return nil, err
	}
	var all []mapped
	for _, d := range list {
		if !strings.HasPrefix(d.Name(), "dm-") {
			continue
		}
		folder := "sys/block/" + d.Name()
		var m mapped
		if m.name, err = bounded.Text(root, folder+"/dm/name"); err != nil {
			if bounded.Absent(err) {
				continue // it went away meanwhile
			}
			return nil, err
		}
		if m.uuid, err = bounded.Text(root, folder+"/dm/uuid"); err != nil && !bounded.Absent(err) {
			return nil, err
		}
		if s, err := bounded.Text(root, folder+"/diskseq"); err == nil {
			m.sequence, _ = strconv.ParseUint(s, 10, 64)
		}
		all = append(all, m)
	}
	return all, nil
}
