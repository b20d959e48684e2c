package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilityBits is the width of the kernel's capability sets.
const capabilityBits = 64

// Set is a set of capabilities, bit n for capability n.
type Set uint64

// Names lists the set's capabilities as capabilities(7) writes them; numbers
// that this build does not know appear as "cap_64".
func (s Set) Names() []string {
	var names []string
	for c := range capabilityBits {
		if s&(1<<c) == 0 {
			continue
		}
		if c < len(capabilityNames) {
			names = append(names, "cap_"+capabilityNames[c])
		} else {
			names = append(names, "cap_"+strconv.Itoa(c))
		}
	}
	return names
}

// Report is what the kernel says about the process: the union over its threads
// of every capability set, and the weakest of the flags.
type Report struct {
	UID         int // effective
	Threads     int
	NoNewPrivs  bool // on every thread
	Filtered    bool // every thread has a filter of system calls
	Dumpable    bool
	Effective   Set
	Permitted   Set
	Inheritable Set
	Bounding    Set
	Ambient     Set
}

// Privileges lists, in words for a finding, what the process could still use
// to harm the device beyond what is expected of it; empty means nothing. What
// stays in the bounding set counts only where no_new_privs is missing.
func (r Report) Privileges(expected ...Capability) []string {
	var left []string
	if r.UID == 0 {
		left = append(left, "runs as root")
	}
	held := (r.Effective|r.Permitted)&^setOf(expected) | r.Inheritable | r.Ambient
	if held != 0 {
		left = append(left, "holds "+strings.Join(held.Names(), " "))
	}
	if !r.NoNewPrivs {
		left = append(left, "can gain privileges through set-uid programs")
	}
	if !r.Filtered {
		left = append(left, "no filter of system calls is in force")
	}
	if r.Dumpable {
		left = append(left, "its memory can be read by its user")
	}
	return left
}

// Missing is what is expected and not held by any thread.
func (r Report) Missing(expected ...Capability) Set { return setOf(expected) &^ r.Effective }

// Read asks the kernel about every thread of this process.
func Read() (Report, error) {
	r := Report{UID: unix.Geteuid(), NoNewPrivs: true, Filtered: true}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return Report{}, fmt.Errorf("ask whether the process is dumpable: %w", err)
	}
	r.Dumpable = dumpable != 0
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return Report{}, errors.New("read thread status: /proc is not mounted")
	}
	for _, name := range files {
		text, err := readStatus(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return Report{}, fmt.Errorf("read thread status: %w", err)
		}
		if err := r.add(text); err != nil {
			return Report{}, fmt.Errorf("parse %s: %w", name, err)
		}
		r.Threads++
	}
	return r, nil
}

// readStatus reads a status file, which is some kilobytes of text.
func readStatus(name string) (string, error) {
	const most = 64 << 10
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	return string(b), err
}

// add joins one thread's status text, proc_pid_status(5), to the report.
func (r *Report) add(status string) error {
	sets := map[string]*Set{"CapEff": &r.Effective, "CapPrm": &r.Permitted, "CapInh": &r.Inheritable, "CapBnd": &r.Bounding, "CapAmb": &r.Ambient}
	seen, filtered := 0, false // a kernel without filters has no line for them
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if set, ok := sets[name]; ok {
			n, err := strconv.ParseUint(value, 16, capabilityBits)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*set |= Set(n)
			seen++
		}
		if name == "NoNewPrivs" {
			r.NoNewPrivs = r.NoNewPrivs && value == "1"
			seen++
		}
		filtered = filtered || name == "Seccomp" && value == "2"
	}
	r.Filtered = r.Filtered && filtered
	if want := len(sets) + 1; seen != want {
		return fmt.Errorf("%d of %d lines about capabilities are there", seen, want)
	}
	return nil
}

// capabilityNames in the order of their numbers, include/uapi/linux/capability.h.
var capabilityNames = []string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
	"setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
	"ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
	"sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
	"lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
	"wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
}
