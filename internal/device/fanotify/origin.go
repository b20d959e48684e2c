package fanotify

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxProc bounds what is read of a file of a process: status has about 1.5 KiB.
const maxProc = 8 << 10

// ticks are those of times in /proc/PID/stat (USER_HZ), the same on every
// architecture that Ward runs on.
const ticks = time.Second / 100

// originOf looks at a process. With a descriptor of it what was read is known to
// be that of this process and no later one of the same number; without, the
// number may have been used anew in the meantime.
func originOf(pid, pidfd int) Origin {
	o := Origin{PID: pid}
	if pid <= 0 {
		return Origin{}
	}
	folder := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(folder + "/exe")
	if err != nil {
		return o // it has ended, or is the kernel's own
	}
	var st unix.Stat_t
	if err := unix.Stat(folder+"/exe", &st); err != nil {
		return o
	}
	read := func(name string) []byte { return readProc(folder + name) }
	uid, started, cgroup := effectiveUID(read("/status")), startOf(read("/stat")), cgroupOf(read("/cgroup"))
	if pidfd >= 0 {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); err != nil || n != 0 {
			return o // it ended while it was looked at
		}
	}
	o.Exe, o.UID, o.Started, o.Cgroup = exe, uid, started, cgroup
	o.Device, o.Inode = uint64(st.Dev), uint64(st.Ino)
	return o
}

func readProc(name string) []byte {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, maxProc)
	n, _ := f.Read(b) // what is missing stays at its zero value
	return b[:max(n, 0)]
}

// effectiveUID reads "Uid: real effective saved file" of status.
func effectiveUID(status []byte) uint32 {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte("Uid:"))
		if !ok {
			continue
		}
		if f := bytes.Fields(rest); len(f) >= 2 {
			n, _ := strconv.ParseUint(string(f[1]), 10, 32)
			return uint32(n)
		}
	}
	return ^uint32(0) // nobody has it
}

// startOf reads field 22 of stat. The name in field 2 may hold anything, so the
// fields are counted from its last bracket.
func startOf(stat []byte) time.Duration {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0
	}
	f := bytes.Fields(stat[i+1:])
	if len(f) < 20 {
		return 0
	}
	n, err := strconv.ParseUint(string(f[19]), 10, 53)
	if err != nil {
		return 0
	}
	return time.Duration(n) * ticks
}

// cgroupOf reads the path in the unified hierarchy, "0::/system.slice/x.service".
func cgroupOf(b []byte) string {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(rest, "\n")
		}
	}
	return ""
}
