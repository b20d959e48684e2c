package early

import (
	"bytes"
	"fmt"
	"os"

	"ward/internal/device/dm"
	"ward/internal/trust/baseline"
)

// Proven says whether dm-verity proves the file system on a block device with a root
// hash: the table of that device, as it was read before the privileges went, holds
// it. sysFS is where sysfs is mounted; the zero hash proves nothing.
func (e *Opened) Proven(sysFS string, device baseline.Device, rootHash [32]byte) bool {
	name, err := os.ReadFile(fmt.Sprintf("%s/dev/block/%d:%d/dm/name", sysFS, device.Major, device.Minor))
	if err != nil || rootHash == ([32]byte{}) {
		return false
	}
	proven := false
	for _, t := range e.Tables {
		if t.Name != string(bytes.TrimSpace(name)) {
			continue
		}
		v, err := dm.ParseVerity(t.Params)
		if t.Target != "verity" || err != nil || !bytes.Equal(v.RootHash, rootHash[:]) || proven {
			return false // it is proven as a whole, or not
		}
		proven = true
	}
	return proven
}
