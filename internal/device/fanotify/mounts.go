package fanotify

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxMounts bounds what is read of a mount table: a device has some dozens, a
	// host of containers some hundreds.
	maxMounts = 4096
	// maxMountLine bounds one line of it: two paths, each byte of them escaped to four.
	maxMountLine = 40 << 10
)

// mount is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	device uint64 // of the superblock, as the kernel's s_dev
	root   string // the mounted directory within the file system
	point  string
	kind   string // "ext4"
}

// parseMounts reads a mount table. A line that cannot be read is passed over: what
// it mounts shows as not marked by nobody, so the count is given back.
func parseMounts(r io.Reader) (all []mount, unread int) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxMountLine)
	for lines.Scan() {
		m, ok := parseMount(lines.Text())
		if !ok || len(all) == maxMounts {
			unread++
			continue
		}
		all = append(all, m)
	}
	if lines.Err() != nil {
		unread++
	}
	return all, unread
}

func parseMount(line string) (mount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	f, g := strings.Fields(before), strings.Fields(after)
	if !ok || len(f) < 6 || len(g) < 1 {
		return mount{}, false
	}
	major, minor, ok := strings.Cut(f[2], ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return mount{}, false
	}
	return mount{device: a<<20 | b, root: unescape(f[3]), point: unescape(f[4]), kind: g[0]}, true
}

// unescape undoes the octal escapes of the kernel's tables.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// pseudo are file systems that hold no files of anybody: what the kernel shows of
// itself. They are never marked.
var pseudo = map[string]bool{
	"autofs": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true, "debugfs": true, "devpts": true,
	"efivarfs": true, "fusectl": true, "hugetlbfs": true, "mqueue": true, "nsfs": true, "proc": true, "pstore": true, "resctrl": true,
	"rpc_pipefs": true, "securityfs": true, "selinuxfs": true, "smackfs": true, "sysfs": true, "tracefs": true, "nfsd": true, "sockfs": true,
}

// volatile are file systems that end with the boot.
var volatile = map[string]bool{"tmpfs": true, "ramfs": true, "rootfs": true, "devtmpfs": true}

// real gives one mount for each superblock that holds files, the one that shows
// most of it: a bind mount of a folder shows less than the file system's root.
// Superblocks come in the order of their mounts.
func real(all []mount) []mount {
	at := make(map[uint64]int)
	var out []mount
	for _, m := range all {
		if pseudo[m.kind] {
			continue
		}
		i, again := at[m.device]
		if !again {
			at[m.device] = len(out)
			out = append(out, m)
			continue
		}
		if cmp.Or(cmp.Compare(len(m.root), len(out[i].root)), cmp.Compare(len(m.point), len(out[i].point))) < 0 {
			out[i] = m
		}
	}
	return out
}

// marked lists the superblocks that a group has marks on, as the kernel tells
// (proc_pid_fdinfo(5), "fanotify sdev:%x ..."): a file system that was unmounted
// and mounted again has lost its mark.
func marked(fdinfo []byte) []uint64 {
	var all []uint64
	for line := range bytes.Lines(fdinfo) {
		rest, ok := bytes.CutPrefix(line, []byte("fanotify sdev:"))
		if !ok {
			continue
		}
		number, _, _ := bytes.Cut(rest, []byte(" "))
		if n, err := strconv.ParseUint(string(number), 16, 64); err == nil {
			all = append(all, n)
		}
	}
	return all
}

func readMarked(fd int) []uint64 {
	if fd < 0 {
		return nil
	}
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return nil
	}
	return marked(b)
}

// survey reads the mount table anew, marks what can be marked and notes what
// cannot. It says whether the blind spots are others than before.
func (w *Watch) survey() bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return w.setBlind(nil, []Blind{{Mount: "/", Reason: "the mount table cannot be read: " + reason(err)}})
	}
	defer f.Close()
	all, unread := parseMounts(f)
	fs := real(all)
	changes, execs := readMarked(w.changes.fd), readMarked(w.execs.fd)
	var blind []Blind
	for _, m := range fs {
		if c, x := slices.Contains(changes, m.device), slices.Contains(execs, m.device); c || x {
			old, half := w.half(m)
			if half {
				blind = append(blind, old)
			}
			if half || c && (x || w.execs.fd < 0) {
				continue
			}
		}
		if b := w.mark(m); b != nil {
			blind = append(blind, *b)
		}
	}
	if unread > 0 {
		blind = append(blind, Blind{Mount: "/", Reason: strconv.Itoa(unread) + " lines of the mount table cannot be read"})
	}
	if w.execs.fd < 0 {
		blind = append(blind, Blind{Mount: "/", Reason: "programs that are run are not told: " + reason(w.execs.err)})
	}
	return w.setBlind(fs, blind)
}

// half finds a blind spot of a file system of which some is seen.
func (w *Watch) half(m mount) (Blind, bool) {
	for _, b := range w.Blind() {
		if b.Mount == m.point && b.Type == m.kind {
			return b, true
		}
	}
	return Blind{}, false
}

// mark puts the marks on a file system; what it cannot be told of is given back.
func (w *Watch) mark(m mount) *Blind {
	blind := &Blind{Mount: m.point, Type: m.kind}
	err := w.changes.mark(changeMask, m.point)
	run := error(nil)
	if w.execs.fd >= 0 {
		run = w.execs.mark(execMask, m.point)
	}
	switch {
	case err == nil && run == nil:
		if slices.Contains(readMarked(w.changes.fd), m.device) {
			return nil
		}
		blind.Reason = hidden
	case err == nil:
		blind.Reason = "programs that are run from it are not told: " + reason(run)
	case run != nil || w.execs.fd < 0:
		blind.Reason = reason(err)
	case w.execs.mark(plainMask, m.point) == nil:
		// The plain group names a file by descriptor: it needs no handles.
		blind.Reason = "only content and programs are told, not names and attributes: " + reason(err)
	default:
		blind.Reason = "only programs are told: " + reason(err)
	}
	return blind
}

// hidden is why one that no path leads to is.
const hidden = "another file system is mounted over it"

// late is why a file system that was mounted after the start is a blind spot.
const late = "it was mounted when Ward had given up the privilege to watch it"

// reason says in words what the kernel answered to a mark.
func reason(err error) string {
	switch errno, _ := err.(unix.Errno); errno {
	case unix.EPERM:
		return late
	case unix.ENODEV:
		return "it has no identity of its own (fsid)"
	case unix.EOPNOTSUPP:
		return "it gives its files no handles"
	case unix.EXDEV:
		return "it is a part of a file system with several identities"
	case unix.EACCES, unix.ENOENT:
		return "its mount point cannot be reached"
	}
	if err == nil {
		return "unknown"
	}
	return err.Error()
}
