package uevent

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a message. The kernel's are UEVENT_BUFFER_SIZE (2048 bytes of
// variables) and UEVENT_NUM_ENVP (64 of them), include/linux/kobject.h; the head
// repeats action and path.
const (
	// MaxSize of a datagram, in bytes.
	MaxSize = 8 << 10
	// MaxValues of a message.
	MaxValues = 64
)

// Message is what the kernel says of one device. All texts are untrusted: some come
// from what is plugged in, or from who names an interface.
type Message struct {
	Action    string // add, remove, change, move, bind, unbind, online, offline
	Path      string // of the device below sysfs, "/devices/pci0000:00/…/1-1:1.0"
	Subsystem string // usb, net, tty, block, module, …
	Sequence  uint64
	Values    map[string]string // all variables, as they were sent
}

// Parse reads a datagram: "action@path", then KEY=value, each ended by a zero byte
// (lib/kobject_uevent.c). The head and the variables must agree. A key that stands
// twice is refused: which one holds would depend on the reader.
func Parse(b []byte) (Message, error) {
	if len(b) == 0 || len(b) > MaxSize {
		return Message{}, fmt.Errorf("parse uevent: %d bytes, want 1 to %d: %w", len(b), MaxSize, ErrForm)
	}
	if b[len(b)-1] != 0 {
		return Message{}, fmt.Errorf("parse uevent: the last variable has no end: %w", ErrForm)
	}
	head, rest, _ := strings.Cut(string(b[:len(b)-1]), "\x00")
	action, path, ok := strings.Cut(head, "@")
	if !ok || action == "" || !strings.HasPrefix(path, "/") {
		return Message{}, fmt.Errorf("parse uevent: head %.80q, want action@/path: %w", head, ErrForm)
	}
	if strings.Count(rest, "\x00") >= MaxValues {
		return Message{}, fmt.Errorf("parse uevent: more than %d variables: %w", MaxValues, ErrForm)
	}
	m := Message{Action: action, Path: path, Values: make(map[string]string)}
	for _, pair := range strings.Split(rest, "\x00") {
		key, value, ok := strings.Cut(pair, "=")
		if _, twice := m.Values[key]; !ok || key == "" || twice {
			return Message{}, fmt.Errorf("parse uevent: variable %.80q, want KEY=value once: %w", pair, ErrForm)
		}
		m.Values[key] = value
	}
	if m.Values["ACTION"] != action || m.Values["DEVPATH"] != path {
		return Message{}, fmt.Errorf("parse uevent: the variables are about another action or device than the head: %w", ErrForm)
	}
	m.Subsystem = m.Values["SUBSYSTEM"]
	sequence, err := strconv.ParseUint(m.Values["SEQNUM"], 10, 64)
	if err != nil || m.Subsystem == "" {
		return Message{}, fmt.Errorf("parse uevent: no SUBSYSTEM or SEQNUM: %w", ErrForm)
	}
	m.Sequence = sequence
	return m, nil
}

// Synthetic says whether somebody asked the kernel for the message by sysfs; nothing
// has happened then (Documentation/ABI/testing/sysfs-uevent; since Linux 4.13).
func (m Message) Synthetic() bool {
	_, asked := m.Values["SYNTH_UUID"]
	return asked
}

// Verity is an error that dm-verity met, as it is in a message about the device.
type Verity struct {
	Metadata bool   // a block of the hash tree; false: of the data
	Block    uint64 // its number
}

// Verity reads DM_VERITY_ERR_BLOCK_NR (drivers/md/dm-verity-target.c): "type,block",
// type 0 for data and 1 for the hash tree. False: there is none that can be read.
func (m Message) Verity() (Verity, bool) {
	kind, block, ok := strings.Cut(m.Values["DM_VERITY_ERR_BLOCK_NR"], ",")
	n, err := strconv.ParseUint(block, 10, 64)
	if !ok || err != nil || kind != "0" && kind != "1" {
		return Verity{}, false
	}
	return Verity{Metadata: kind == "1", Block: n}, true
}
