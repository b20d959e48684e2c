package image

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
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
// Documentation/driver-api/early-userspace/buffer-format.rst). Entries are
// sorted, inodes counted, times and owners zero; directories above an entry are
// added.
func writeCPIO(entries map[string]entry) []byte {
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
	for i, name := range names {
		writeCPIOEntry(&out, uint32(i+1), name, all[name])
	}
	writeCPIOEntry(&out, 0, "TRAILER!!!", entry{})
	for out.Len()%512 != 0 {
		out.WriteByte(0)
	}
	return out.Bytes()
}

func writeCPIOEntry(out *bytes.Buffer, inode uint32, name string, e entry) {
	links := uint32(1)
	if e.mode&typeDir == typeDir && e.mode&typeFile != typeFile {
		links = 2
	}
	out.WriteString("070701")
	for _, v := range []uint32{
		inode, e.mode, 0, 0, links, 0, uint32(len(e.data)),
		0, 0, e.major, e.minor, uint32(len(name) + 1), 0,
	} {
		fmt.Fprintf(out, "%08X", v)
	}
	out.WriteString(name)
	out.WriteByte(0)
	padTo4(out)
	out.Write(e.data)
	padTo4(out)
}

func padTo4(out *bytes.Buffer) {
	for out.Len()%4 != 0 {
		out.WriteByte(0)
	}
}
