package posture

import (
	"io/fs"
	"strings"
)

// debugFiles are there where the kernel has what their word says.
var debugFiles = [...]struct{ file, word string }{
	{"proc/sys/debug/kprobes-optimization", "kprobes"}, {"proc/kcore", "kcore"}, {"dev/mem", "mem"}, {"dev/port", "port"},
}

// kernelDebug says what lets somebody look into the running kernel or change it:
// "debugfs-mounted", "tracefs-mounted", "kgdb TTY" where the kernel's debugger
// listens, "kprobes", "kcore" (/proc/kcore), "mem" and "port" (/dev/mem,
// /dev/port).
func kernelDebug(root fs.FS) (words []string, err error) {
	mounts, err := ReadFile(root, "proc/self/mounts", listFile)
	if err != nil {
		return nil, needed(err)
	}
	for line := range strings.Lines(string(mounts)) {
		// source, place, type, options
		if f := strings.Fields(line); len(f) > 2 && (f[2] == "debugfs" || f[2] == "tracefs") {
			words = append(words, f[2]+"-mounted")
		}
	}
	tty, err := word(root, "sys/module/kgdboc/parameters/kgdboc")
	if err == nil && tty != "" && tty != "(null)" {
		words = append(words, "kgdb "+tty)
	}
	for _, f := range debugFiles {
		if err != nil && !absent(err) {
			break
		}
		if _, err = fs.Stat(root, f.file); err == nil {
			words = append(words, f.word)
		}
	}
	if absent(err) {
		err = nil
	}
	return words, err
}
