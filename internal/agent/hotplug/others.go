package hotplug

import (
	"context"
	"encoding/json"
	"strconv"

	"ward/internal/device/uevent"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// came says of a message whether its device came (1), went (-1) or neither.
func came(m uevent.Message) int {
	switch m.Action {
	case "add":
		return 1
	case "remove":
		return -1
	}
	return 0
}

// tell records that something was plugged in or taken away.
func (w *Watch) tell(ctx context.Context, kind, subject string, r report) {
	b, err := json.Marshal(r)
	if err != nil {
		panic("hotplug: encode report: " + err.Error())
	}
	w.record(ctx, event.Event{Type: kind, Subject: subject, Severity: finding.Info, Report: b})
}

// both tells of a device that came or went, and says what it is called.
func (w *Watch) both(ctx context.Context, kind string, m uevent.Message, expected *bool) string {
	name := w.nameOf(m.Path)
	what := event.DeviceAttached
	if m.Action == "remove" {
		what = event.DeviceDetached
	}
	w.tell(ctx, what, kind+"/"+name, report{Kind: kind, Name: name, Port: uevent.PortOf(m.Path), Bus: busOf(m.Path), Expected: expected})
	return name
}

// expect is the policy's word about what is under a USB port; nil where there is none.
func (w *Watch) expect(m uevent.Message) *bool {
	port := uevent.PortOf(m.Path)
	if port == "" {
		return nil
	}
	expected := w.expectedAt(port)
	return &expected
}

// network tells of an interface. One of a USB device that the release allows is
// expected, and so is what the board itself has until it has started up.
func (w *Watch) network(ctx context.Context, m uevent.Message) {
	if came(m) == 0 {
		return
	}
	expected := w.expect(m)
	name := w.both(ctx, "network", m, expected)
	bus := busOf(m.Path)
	if came(m) < 0 || expected != nil && *expected || bus == "board" && w.c.Now() < settled {
		return
	}
	w.incident(ctx, "network/"+name, finding.NetInterfaceAdded, name+", by way of: "+place(bus, m), name)
}

func place(bus string, m uevent.Message) string {
	if port := uevent.PortOf(m.Path); port != "" {
		return "USB port " + port
	}
	if bus == "virtual" {
		return "software"
	}
	return "the board"
}

// serial tells of a serial adapter: a terminal under a USB port. The board's own
// terminals are there from the start.
func (w *Watch) serial(ctx context.Context, m uevent.Message) {
	expected := w.expect(m)
	if came(m) == 0 || expected == nil {
		return
	}
	name := w.both(ctx, "serial", m, expected)
	if came(m) < 0 || *expected {
		return
	}
	w.incident(ctx, "serial/"+name, finding.SerialAdapterAdded, name+", at USB port "+uevent.PortOf(m.Path), name)
}

// block tells of disks and of errors of dm-verity. Partitions, and disks that are made
// of others, are a hint alone.
func (w *Watch) block(ctx context.Context, m uevent.Message) {
	if v, ok := m.Verity(); ok {
		part := "data"
		if v.Metadata {
			part = "the hash tree"
		}
		name := w.nameOf(m.Path)
		found := "block " + strconv.FormatUint(v.Block, 10) + " of " + part
		if w.first(ctx, "block/"+name, finding.StorageVerityError, found) {
			w.incident(ctx, "block/"+name, finding.StorageVerityError, name+", "+found, found)
		}
		return
	}
	w.c.Hint("block")
	if came(m) != 0 && m.Values["DEVTYPE"] == "disk" && busOf(m.Path) != "virtual" {
		w.both(ctx, "block", m, w.expect(m))
	}
}
