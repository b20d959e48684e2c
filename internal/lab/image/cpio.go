package image

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// An entry of an initramfs: a directory, a device node or a file.
type entry struct {
	mode         uint32 // with the type bits of stat(2)
	data         []byte
	major, minor uint32
}

// Type bits of stat(2).
const (
	typeDir  = 0o040000
	typeChar = 0o020000
	typeFile = 0o100000
	typeLink = 0o120000
)

// writeCPIO makes an archive in the "new ASCII" format (kernel
// Documentation/driver-api/early-userspace/buffer-format.rst) with u-root's
// writer. Entries are sorted, inodes counted, times and owners zero;
// directories above an entry are added.
func writeCPIO(entries map[string]entry) ([]byte, error) {
	all := make(map[string]entry, len(entries))
	for name, e := range entries {
		all[name] = e
		for i := range name {
			if name[i] != '/' {
				continue
			}
			if _, ok := entries[name[:i]]; !ok {
				all[name[:i]] = entry{mode: typeDir | 0o755}
			}
		}
	}
	names := sortedKeys(all)
	// A directory comes before what it holds: "a" < "a-b" < "a/b" would break that.
	slices.SortStableFunc(names, func(x, y string) int {
		return slices.Compare(strings.Split(x, "/"), strings.Split(y, "/"))
	})
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, name := range names {
		e := all[name]
		record := cpio.MakeReproducible(cpio.StaticRecord(e.data, cpio.Info{
			Name: name, Mode: uint64(e.mode), Rmajor: uint64(e.major), Rminor: uint64(e.minor),
		}))
		record.Ino = uint64(i + 1)
		if err := w.WriteRecord(record); err != nil {
			return nil, fmt.Errorf("write %s to the archive: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("end archive: %w", err)
	}
	return out.Bytes(), nil
}
