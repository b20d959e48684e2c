package system

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// debuggers are programs that open a device to whoever reaches their port, by the
// last part of their path.
var debuggers = map[string]bool{"adbd": true, "gdbserver": true, "gdbserver64": true, "lldb-server": true, "openocd": true, "frida-server": true, "dlv": true}

// Consoles tells what lets somebody in by a cable: "kernel ttyS0" is a serial console
// of the kernel, "ttyS0 /usr/sbin/agetty" a session on a serial line (a process that
// leads a session there: a getty, a login, a shell), "debugger /usr/bin/gdbserver" a
// debugger that runs, "gadget ffs.adb" a debugging function of the device's own USB
// port (Documentation/ABI/testing/configfs-usb-gadget).
func Consoles() posture.Collector {
	return collector(claim.Consoles, func(root fs.FS) ([]string, error) {
		values, err := kernelConsoles(root)
		if err != nil {
			return nil, err
		}
		serial, err := serialLines(root)
		if err != nil {
			return nil, err
		}
		all, err := processes(root)
		if err != nil {
			return nil, err
		}
		for _, process := range all {
			name, seen := program(root, process)
			if base, _, _ := strings.Cut(path.Base(name), " "); seen && debuggers[base] {
				values = append(values, "debugger "+name)
			}
			if line := sessionOf(root, process, serial); line != "" {
				if !seen {
					name = "?"
				}
				values = append(values, line+" "+name)
			}
		}
		gadgets, err := gadgetFunctions(root)
		if err != nil {
			return nil, err
		}
		return append(values, gadgets...), nil
	})
}

// kernelConsoles are the consoles on which the kernel speaks and takes a line, but
// for the screen.
func kernelConsoles(root fs.FS) ([]string, error) {
	active, err := bounded.Text(root, "sys/class/tty/console/active")
	if err != nil && !bounded.Absent(err) {
		return nil, err
	}
	var values []string
	for _, c := range strings.Fields(active) {
		if rest := strings.TrimPrefix(c, "tty"); rest == c || strings.Trim(rest, "0123456789") != "" {
			values = append(values, "kernel "+bounded.Word(c))
		}
	}
	return values, nil
}

// serialDriver numbers the lines of one driver.
type serialDriver struct {
	name      string // "ttyS"
	major     uint64
	low, high uint64 // minors
}

// serialLines reads the drivers of serial lines (proc(5), /proc/tty/drivers):
// "serial /dev/ttyS 4 64-111 serial".
func serialLines(root fs.FS) ([]serialDriver, error) {
	var all []serialDriver
	err := bounded.Lines(root, "proc/tty/drivers", textFile, func(line string) {
		f := strings.Fields(line)
		if len(f) != 5 || f[4] != "serial" {
			return
		}
		low, high, isRange := strings.Cut(f[3], "-")
		if !isRange {
			high = low
		}
		d := serialDriver{name: path.Base(f[1])}
		for _, n := range []struct {
			text string
			to   *uint64
		}{{f[2], &d.major}, {low, &d.low}, {high, &d.high}} {
			v, err := strconv.ParseUint(n.text, 10, 32)
			if err != nil {
				return
			}
			*n.to = v
		}
		all = append(all, d)
	})
	if err != nil && !bounded.Absent(err) {
		return nil, err
	}
	return all, nil
}

// sessionOf is the serial line whose session a process leads; empty for none
// (proc_pid_stat(5): behind the name in brackets come state, parent, group,
// session, terminal).
func sessionOf(root fs.FS, process int, serial []serialDriver) string {
	stat, err := bounded.Text(root, fmt.Sprintf("proc/%d/stat", process))
	if err != nil {
		return ""
	}
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 5 || f[3] != strconv.Itoa(process) {
		return ""
	}
	terminal, err := strconv.ParseInt(f[4], 10, 32)
	if err != nil || terminal == 0 {
		return ""
	}
	n := uint64(uint32(terminal)) // the kernel's dev_t: 12 bits of major between the low 8 and the high 12 of minor
	major, minor := n>>8&0xfff, n&0xff|n>>12&0xfff00
	for _, d := range serial {
		if d.major == major && minor >= d.low && minor <= d.high {
			return bounded.Word(d.name) + strconv.FormatUint(minor-d.low, 10)
		}
	}
	return ""
}

// gadgetFunctions are the functions of the device's own USB port that debuggers and
// consoles use.
func gadgetFunctions(root fs.FS) ([]string, error) {
	const folder, most = "sys/kernel/config/usb_gadget", 64
	gadgets, err := bounded.Entries(root, folder, most)
	if err != nil && !bounded.Absent(err) {
		return nil, err
	}
	var values []string
	for _, g := range gadgets {
		functions, err := bounded.Entries(root, path.Join(folder, g.Name(), "functions"), most)
		if err != nil && !bounded.Absent(err) {
			return nil, err
		}
		for _, f := range functions {
			if kind, instance, _ := strings.Cut(f.Name(), "."); kind == "acm" || kind == "gser" || kind == "ffs" && strings.HasPrefix(instance, "adb") {
				values = append(values, "gadget "+bounded.Word(f.Name()))
			}
		}
	}
	return values, nil
}
