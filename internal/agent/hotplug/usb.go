package hotplug

import (
	"context"
	"path"
	"slices"
	"strings"

	"ward/internal/device/uevent"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// storage is the class of mass storage (USB-IF class codes).
const storage = "08"

// classes are names of USB-IF class codes, for people.
var classes = map[string]string{
	"01": "audio", "02": "communications", "03": "keyboard, mouse or other input", "05": "physical", "06": "image", "07": "printer", storage: "mass storage",
	"09": "hub", "0a": "data of communications", "0b": "smart card", "0d": "content security", "0e": "video", "0f": "health care", "10": "audio and video",
	"dc": "diagnostics", "e0": "wireless", "ef": "miscellaneous", "fe": "application specific", "ff": "the maker's own",
}

// allowed says whether the policy allows an interface now: the first rule that fits
// decides, and none fits means never.
func (w *Watch) allowed(u uevent.USB) bool {
	for _, rule := range w.c.Policy().USB {
		if rule.Class != "*" && rule.Class != u.Class || rule.Vendor != "" && rule.Vendor != u.Vendor || rule.Product != "" && rule.Product != u.Product {
			continue
		}
		switch rule.When {
		case watch.Always:
			return true
		case watch.Service:
			return w.c.Service.On()
		}
		return false
	}
	return false
}

// report is that of ward.device.attached and detached.
type report struct {
	Kind    string `json:"kind"`              // usb, network, serial, block
	Name    string `json:"name,omitempty"`    // the kernel's, or hidden
	Port    string `json:"port,omitempty"`    // of the USB bus
	Bus     string `json:"bus,omitempty"`     // usb, board, virtual
	Class   string `json:"class,omitempty"`   // of USB
	Vendor  string `json:"vendor,omitempty"`  // number
	Product string `json:"product,omitempty"` // number
	Serial  string `json:"serial,omitempty"`  // hidden
	// Expected: the release allows it now; absent where it says nothing about such.
	Expected *bool `json:"expected,omitempty"`
}

func (w *Watch) describe(u uevent.USB, expected bool) report {
	r := report{Kind: "usb", Port: u.Port, Bus: "usb", Class: u.Class, Vendor: u.Vendor, Product: u.Product, Expected: &expected}
	if u.UntrustedSerial != "" {
		r.Serial = w.c.Hide(u.UntrustedSerial)
	}
	return r
}

func words(u uevent.USB) string {
	text := "class " + u.Class
	if name := classes[u.Class]; name != "" {
		text += " (" + name + ")"
	}
	if u.Vendor != "" {
		text += ", vendor " + u.Vendor + ", product " + u.Product
	}
	return text + ", at port " + u.Port
}

// usb tells of an interface that comes or goes.
func (w *Watch) usb(ctx context.Context, m uevent.Message) {
	if m.Action != "add" && m.Action != "remove" {
		return
	}
	u, ok := m.USB(w.c.SysFS)
	if !ok {
		return
	}
	if m.Action == "remove" {
		was, known := w.forget(u.Port)
		if known {
			u = was.USB
		}
		w.tell(ctx, event.DeviceDetached, "usb/"+u.Port, w.describe(u, w.allowed(u)))
		if known && !was.Expected {
			w.clear(ctx, u)
		}
		return
	}
	expected := w.allowed(u)
	w.tell(ctx, event.DeviceAttached, "usb/"+u.Port, w.describe(u, expected))
	w.appear(ctx, u, expected, true)
}

// appear judges an interface that is there. One that was just plugged in is told in any
// case, one that was found only if that was not told in this boot.
func (w *Watch) appear(ctx context.Context, u uevent.USB, expected, plugged bool) {
	was, known := w.remember(Device{u, expected})
	if !expected {
		code := finding.USBUnexpectedClass
		if u.Class == storage {
			code = finding.USBStorageInserted
		}
		found := u.Class + " " + u.Vendor + ":" + u.Product
		if first := w.first(ctx, "usb/"+u.Port, code, found); first || plugged {
			w.incident(ctx, "usb/"+u.Port, code, words(u), found)
		}
		if !known || was.Expected {
			w.raise(ctx, u)
		}
	} else if known && !was.Expected {
		w.clear(ctx, u)
	}
}

func (w *Watch) raise(ctx context.Context, u uevent.USB) { w.here(ctx, event.FindingRaised, u) }
func (w *Watch) clear(ctx context.Context, u uevent.USB) { w.here(ctx, event.FindingCleared, u) }

func (w *Watch) here(ctx context.Context, kind string, u uevent.USB) {
	w.condition(ctx, kind, "usb/"+u.Port, finding.USBPresentUnexpected, words(u), "")
}

// remember notes what is at a port, and gives what was there before. What finds no
// place is as if it were known, so that no condition is raised that nobody clears.
func (w *Watch) remember(d Device) (was Device, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.present, func(p Device) bool { return p.Port == d.Port })
	if i >= 0 {
		was = w.present[i]
		w.present[i] = d
		return was, true
	}
	if len(w.present) >= maxPresent {
		return d, true
	}
	w.present = append(w.present, d)
	return Device{}, false
}

func (w *Watch) forget(port string) (Device, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.present, func(p Device) bool { return p.Port == port })
	if i < 0 {
		return Device{}, false
	}
	was := w.present[i]
	w.present = slices.Delete(w.present, i, i+1)
	return was, true
}

// enumerate looks at what is there, and forgets what is not.
func (w *Watch) enumerate(ctx context.Context) error {
	now, err := uevent.ListUSB(w.c.SysFS)
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, u := range now {
		there[u.Port] = true
		w.appear(ctx, u, w.allowed(u), false)
	}
	for _, d := range w.Present() {
		if !there[d.Port] {
			w.forget(d.Port)
			if !d.Expected {
				w.clear(ctx, d.USB)
			}
		}
	}
	return nil
}

// rejudge holds what is there against the policy and the mode in force.
func (w *Watch) rejudge(ctx context.Context) {
	for _, d := range w.Present() {
		now := w.allowed(d.USB)
		if now == d.Expected {
			continue
		}
		w.remember(Device{d.USB, now})
		if now {
			w.clear(ctx, d.USB)
		} else {
			w.raise(ctx, d.USB)
		}
	}
}

// expectedAt says whether what is at a port is allowed: an adapter is more than one
// thing, and each of them is judged.
func (w *Watch) expectedAt(port string) bool {
	if u, ok := uevent.ReadUSB(w.c.SysFS, port); ok {
		return w.allowed(u)
	}
	for _, d := range w.Present() {
		if d.Port == port {
			return d.Expected
		}
	}
	return false
}

// busOf is the bus that a device's path leads over.
func busOf(devicePath string) string {
	switch {
	case uevent.PortOf(devicePath) != "":
		return "usb"
	case strings.HasPrefix(devicePath, "/devices/virtual/"):
		return "virtual"
	}
	return "board"
}

// kernelNames are the beginnings of names that the kernel gives; a number comes behind.
var kernelNames = []string{"eth", "wlan", "wwan", "usb", "can", "lo", "tun", "tap", "wg", "veth", "br", "bond", "dummy", "docker", "ppp", "ttyUSB", "ttyACM", "ttyGS", "ttyS", "sd", "mmcblk", "nvme", "vd", "sr", "dm-", "loop", "md", "zram"}

// nameOf is the last part of a device's path as it may leave the device: as the kernel
// names such; another was chosen by somebody, and is hidden.
func (w *Watch) nameOf(devicePath string) string {
	name := path.Base(devicePath)
	for _, begin := range kernelNames {
		rest, ok := strings.CutPrefix(name, begin)
		if !ok {
			continue
		}
		digits := strings.Trim(rest, "0123456789") == ""
		letters := (begin == "sd" || begin == "vd") && len(rest) <= 3 && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz") == ""
		parts := (begin == "mmcblk" || begin == "nvme") && strings.Trim(rest, "0123456789npbot") == ""
		if len(rest) <= 12 && (digits || letters || parts) {
			return name
		}
	}
	return w.c.Hide(name)
}
