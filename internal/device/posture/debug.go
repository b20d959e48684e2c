package posture

import (
	"bytes"
	"io/fs"
	"strings"

	"ward/internal/trust/posture"
)

// kernelDebug says what lets somebody look into the running kernel or change it:
// "debugfs-mounted", "tracefs-mounted", "kgdb TTY" where the kernel's debugger
// listens, "kprobes", "kcore" (/proc/kcore), "mem" and "port" (/dev/mem,
// /dev/port).
func kernelDebug(root fs.FS) posture.Claim {
	mounts, err := ReadFile(root, "proc/self/mounts", listFile)
	if err != nil {
		return Failed(posture.KernelDebug, err)
	}
	var values []string
	for line := range bytes.Lines(mounts) {
		// source, place, type, options
		f := strings.Fields(string(line))
		if len(f) > 2 && (f[2] == "debugfs" || f[2] == "tracefs") {
			values = append(values, f[2]+"-mounted")
		}
	}
	tty, err := word(root, "sys/module/kgdboc/parameters/kgdboc")
	switch {
	case err == nil && tty != "" && tty != "(null)":
		values = append(values, "kgdb "+tty)
	case err != nil && !Missing("", err).Absent:
		return Failed(posture.KernelDebug, err)
	}
	for _, f := range [...]struct{ file, word string }{
		{"proc/sys/debug/kprobes-optimization", "kprobes"}, {"proc/kcore", "kcore"}, {"dev/mem", "mem"}, {"dev/port", "port"},
	} {
		if _, err := fs.Stat(root, f.file); err == nil {
			values = append(values, f.word)
		} else if !Missing("", err).Absent {
			return Failed(posture.KernelDebug, err)
		}
	}
	return Value(posture.KernelDebug, values...)
}
