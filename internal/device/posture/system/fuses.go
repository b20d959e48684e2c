package system

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// Bounds of a fuse.
const (
	maxFuse   = 16      // bytes of one
	maxOffset = 1 << 20 // nvmem devices are some KiB long
)

// errFuse: a rule's value names no fuse.
var errFuse = errors.New("want NAME /sys/PATH@OFFSET MASK=BITS")

// fuse is what a value of the release's rule asks for: "jtag-locked
// /sys/bus/nvmem/devices/imx-ocotp0/nvmem@24 0000c000=0000c000": name, file and offset
// of an nvmem device (Documentation/ABI/stable/sysfs-bus-nvmem), the bits that count,
// and what they must be, both as hexadecimal bytes in their order in the file.
type fuse struct {
	name, file string
	offset     int64
	mask       []byte
}

func parseFuse(value string) (fuse, error) {
	f := strings.Fields(value)
	if len(f) != 3 {
		return fuse{}, errFuse
	}
	file, offset, ok := strings.Cut(f[1], "@")
	at, err := strconv.ParseInt(offset, 10, 64)
	mask, bits, ok2 := strings.Cut(f[2], "=")
	m, err2 := hex.DecodeString(mask)
	if !ok || !ok2 || err != nil || err2 != nil || at < 0 || at > maxOffset || len(m) == 0 || len(m) > maxFuse || len(bits) != len(mask) {
		return fuse{}, errFuse
	}
	if !strings.HasPrefix(file, "/sys/") || path.Clean(file) != file {
		return fuse{}, fmt.Errorf("%w: not a path below /sys", errFuse)
	}
	return fuse{name: f[0], file: file, offset: at, mask: m}, nil
}

// Fuses tells the fuses that the release's rule about debug.hardware names, in the
// words of the rule, with the bits as they are: where they differ, so does the value.
// Which fuse closes JTAG differs by board, and only its release knows. Without a rule
// the claim is absent.
func Fuses(policy func() *claim.Policy) posture.Collector {
	return collector(claim.HardwareDebug, func(root fs.FS) ([]string, error) {
		rule := policy().RuleOf(claim.HardwareDebug)
		if rule == nil || len(rule.Values) == 0 {
			return nil, errAbsent
		}
		var values []string
		for _, v := range rule.Values {
			f, err := parseFuse(v)
			if err != nil {
				return nil, fmt.Errorf("parse rule %.40q: %w", v, err)
			}
			bits, err := f.read(root)
			if err != nil {
				return nil, err
			}
			values = append(values, fmt.Sprintf("%s %s@%d %x=%x", f.name, f.file, f.offset, f.mask, bits))
		}
		return values, nil
	})
}

// read gives the bits that count.
func (f fuse) read(root fs.FS) ([]byte, error) {
	file, err := bounded.Open(root, strings.TrimPrefix(f.file, "/"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := io.CopyN(io.Discard, file, f.offset); err != nil {
		return nil, fmt.Errorf("read %s: no offset %d: %w", f.file, f.offset, err)
	}
	bits := make([]byte, len(f.mask))
	if _, err := io.ReadFull(file, bits); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.file, err)
	}
	for i := range bits {
		bits[i] &= f.mask[i]
	}
	return bits, nil
}
