package uevent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
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
	class, _, _ := strings.Cut(m.Values["INTERFACE"], "/") // decimal
	if n, err := strconv.ParseUint(class, 10, 8); err == nil {
		u.Class = padded(n, 2)
	}
	vendor, product, _ := strings.Cut(m.Values["PRODUCT"], "/") // hexadecimal, with the version behind
	product, _, _ = strings.Cut(product, "/")
	v, err1 := strconv.ParseUint(vendor, 16, 16)
	p, err2 := strconv.ParseUint(product, 16, 16)
	if err1 == nil && err2 == nil {
		u.Vendor, u.Product = padded(v, 4), padded(p, 4)
	}
	return u, u.Class != ""
}

// padded writes a number in hexadecimal digits, with zeros before it.
func padded(n uint64, digits int) string {
	s := strconv.FormatUint(n, 16)
	return strings.Repeat("0", max(0, digits-len(s))) + s
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
