package system

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// mountOptions are the options that matter to safety. "rw" is told by the lack of "ro".
var mountOptions = []string{"nodev", "noexec", "nosuid", "nosymfollow", "ro"}

// Mounts tells each mount as "/tmp tmpfs nodev,noexec,nosuid": the place, the
// type of the file system, those of its options that matter in order, "-" for
// none, and "bind=/path" where only a part of the file system is mounted
// (proc_pid_mountinfo(5)). A mount that is read-only as a whole or as a file
// system is "ro". The mounts are those of process 1, where they can be read.
func Mounts() posture.Collector {
	return collector(claim.Mounts, func(root fs.FS) ([]string, error) {
		var values []string
		bad := 0
		read := func(name string) error {
			values, bad = nil, 0
			return bounded.Lines(root, name, textFile*4, func(line string) {
				if v, ok := mount(line); ok {
					values = append(values, v)
				} else {
					bad++
				}
			})
		}
		if err := read("proc/1/mountinfo"); err != nil {
			if err := read("proc/self/mountinfo"); err != nil {
				return nil, err
			}
		}
		if bad > 0 || len(values) == 0 {
			return nil, fmt.Errorf("parse mountinfo: %d of %d lines are none", bad, bad+len(values))
		}
		return values, nil
	})
}

// mount makes a value of a line: "36 35 98:0 /root /mnt rw,noatime master:1 - ext3
// /dev/root rw,errors=continue".
func mount(line string) (string, bool) {
	own, shared, ok := strings.Cut(line, " - ")
	fields, more := strings.Fields(own), strings.Fields(shared)
	if !ok || len(fields) < 6 || len(more) < 2 || !strings.HasPrefix(fields[4], "/") {
		return "", false
	}
	set := strings.Split(fields[5], ",")
	if len(more) > 2 && slices.Contains(strings.Split(more[len(more)-1], ","), "ro") {
		set = append(set, "ro")
	}
	var told []string
	for _, o := range mountOptions {
		if slices.Contains(set, o) {
			told = append(told, o)
		}
	}
	options := "-"
	if len(told) > 0 {
		options = strings.Join(told, ",")
	}
	value := bounded.Word(bounded.Unescape(fields[4])) + " " + bounded.Word(more[0]) + " " + options
	if from := fields[3]; from != "/" && strings.HasPrefix(from, "/") {
		value += " bind=" + bounded.Word(bounded.Unescape(from))
	}
	return value, true
}
