package uevent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const (
	// devices is where sysfs lists devices and interfaces of USB, flat.
	devices = "bus/usb/devices"
	// maxUSB bounds what is listed: 127 devices on a bus, a few interfaces each.
	maxUSB = 4096
	// maxText bounds a text of a device in bytes: a USB string has up to 126 UTF-16
	// characters.
	maxText = 512
)

// USB is one interface of a USB device: a device has one for each thing that it is.
type USB struct {
	Port    string // of the bus, "1-1.2:1.0": bus, ports, configuration, interface
	Class   string // USB-IF class code, two lower-case hexadecimal digits
	Vendor  string // four lower-case hexadecimal digits
	Product string
	// What the device says of itself; empty: nothing. It may name a person.
	UntrustedMaker, UntrustedName, UntrustedSerial string
}

// ListUSB lists the interfaces that are there. sys is sysfs. A device without any,
// or one that is taken away meanwhile, is no error; no bus gives none.
func ListUSB(sys fs.FS) ([]USB, error) {
	entries, err := fs.ReadDir(sys, devices)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list USB devices: %w", err)
	}
	var out []USB
	for _, e := range entries[:min(len(entries), maxUSB)] {
		if !strings.Contains(e.Name(), ":") {
			continue
		}
		if u, ok := ReadUSB(sys, e.Name()); ok {
			out = append(out, u)
		}
	}
	return out, nil
}

// ReadUSB reads an interface by its port; false when it is not there (any more) or
// has no class.
func ReadUSB(sys fs.FS, port string) (USB, bool) {
	device, _, ok := strings.Cut(port, ":")
	if !ok || !IsPort(port) {
		return USB{}, false
	}
	u := USB{Port: port, Class: attribute(sys, port, "bInterfaceClass")}
	if strings.HasSuffix(device, "-0") { // a root hub's interface is 1-0:1.0, of the device usb1
		device = "usb" + strings.TrimSuffix(device, "-0")
	}
	u.describe(sys, device)
	return u, hexDigits(u.Class, 2)
}

// describe reads what the device says of itself.
func (u *USB) describe(sys fs.FS, device string) {
	u.Vendor, u.Product = attribute(sys, device, "idVendor"), attribute(sys, device, "idProduct")
	u.UntrustedMaker, u.UntrustedName, u.UntrustedSerial = attribute(sys, device, "manufacturer"), attribute(sys, device, "product"), attribute(sys, device, "serial")
	if !hexDigits(u.Vendor, 4) || !hexDigits(u.Product, 4) {
		u.Vendor, u.Product = "", ""
	}
}

// USB is the interface that a message is about, with what sysfs still has of it; the
// message itself says what it is (INTERFACE and PRODUCT, drivers/usb/core/driver.c).
// False: it is about something else.
func (m Message) USB(sys fs.FS) (USB, bool) {
	port := path.Base(m.Path)
	if m.Subsystem != "usb" || m.Values["DEVTYPE"] != "usb_interface" || !IsPort(port) {
		return USB{}, false
	}
	u, _ := ReadUSB(sys, port)
	u.Port = port
	var class, sub, protocol, vendor, product, version int
	if n, _ := fmt.Sscanf(m.Values["INTERFACE"], "%d/%d/%d", &class, &sub, &protocol); n > 0 && class >= 0 && class <= 0xff {
		u.Class = fmt.Sprintf("%02x", class)
	}
	if n, _ := fmt.Sscanf(m.Values["PRODUCT"], "%x/%x/%x", &vendor, &product, &version); n >= 2 && vendor|product >= 0 && vendor|product <= 0xffff {
		u.Vendor, u.Product = fmt.Sprintf("%04x", vendor), fmt.Sprintf("%04x", product)
	}
	return u, u.Class != ""
}

// PortOf is the USB interface that a device's path lies below, "" when none does: of
// a network adapter "/devices/…/1-1/1-1:1.0/net/eth1" it is "1-1:1.0".
func PortOf(devicePath string) string {
	port := ""
	for part := range strings.SplitSeq(devicePath, "/") {
		if strings.Contains(part, ":") && IsPort(part) && strings.Contains(part, "-") {
			port = part
		}
	}
	return port
}

// IsPort says whether a text is the kernel's name of a USB interface: digits, '-',
// '.' and ':' (drivers/usb/core/message.c).
func IsPort(s string) bool {
	bus, rest, ok := strings.Cut(s, "-")
	return ok && bus != "" && rest != "" && len(s) <= 64 && strings.Trim(bus, "0123456789") == "" && strings.Trim(rest, "0123456789.:") == ""
}

// attribute reads a text of a device, without the line's end; "" when there is none.
func attribute(sys fs.FS, device, name string) string {
	f, err := sys.Open(path.Join(devices, device, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func hexDigits(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
