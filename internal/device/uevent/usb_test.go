package uevent

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// stick is a device in sysfs that names a person.
var stick = fstest.MapFS{
	"bus/usb/devices/usb2/idVendor":           {Data: []byte("1d6b\n")},
	"bus/usb/devices/usb2/idProduct":          {Data: []byte("0003\n")},
	"bus/usb/devices/2-0:1.0/bInterfaceClass": {Data: []byte("09\n")},
	"bus/usb/devices/2-1/idVendor":            {Data: []byte("46f4\n")},
	"bus/usb/devices/2-1/idProduct":           {Data: []byte("0001\n")},
	"bus/usb/devices/2-1/manufacturer":        {Data: []byte("QEMU\n")},
	"bus/usb/devices/2-1/product":             {Data: []byte("Stick of Anna Petersen\n")},
	"bus/usb/devices/2-1/serial":              {Data: []byte("1-0000:00:04.0-1\n")},
	"bus/usb/devices/2-1:1.0/bInterfaceClass": {Data: []byte("08\n")},
	"bus/usb/devices/2-2:1.0/bInterfaceClass": {Data: []byte("\n")}, // it is going away
	"bus/usb/devices/2-3/idVendor":            {Data: []byte("zzzz\n")},
	"bus/usb/devices/2-3/idProduct":           {Data: []byte("0001\n")},
	"bus/usb/devices/2-3/product":             {Data: []byte(strings.Repeat("x", 4000))},
	"bus/usb/devices/2-3:1.0/bInterfaceClass": {Data: []byte("ff\n")},
	"bus/usb/devices/x-3:1.0/bInterfaceClass": {Data: []byte("08\n")},
	"bus/usb/devices/2-3:one/bInterfaceClass": {Data: []byte("08\n")},
}

// Verifies: SR-099
func TestListUSB(t *testing.T) {
	got, err := ListUSB(stick)
	if err != nil || len(got) != 3 {
		t.Fatalf("listed %+v, error %v, want three", got, err)
	}
	for i, want := range []USB{
		{Port: "2-0:1.0", Class: "09", Vendor: "1d6b", Product: "0003"},
		{Port: "2-1:1.0", Class: "08", Vendor: "46f4", Product: "0001", UntrustedMaker: "QEMU", UntrustedName: "Stick of Anna Petersen", UntrustedSerial: "1-0000:00:04.0-1"},
		{Port: "2-3:1.0", Class: "ff", UntrustedName: strings.Repeat("x", maxText)},
	} {
		if got[i] != want {
			t.Errorf("listed %+v, want %+v", got[i], want)
		}
	}
	if got, err := ListUSB(fstest.MapFS{}); err != nil || got != nil {
		t.Errorf("without a bus: %+v, %v", got, err)
	}
	if _, err := ListUSB(fstest.MapFS{"bus/usb/devices": {}}); err == nil {
		t.Error("what cannot be listed is no error")
	}
	if _, err := ListUSB(os.DirFS("/sys")); err != nil {
		t.Errorf("on this machine: %v", err)
	}
}

// The message says what an interface is when sysfs has it no more.
func TestUSBOfAMessage(t *testing.T) {
	b, err := os.ReadFile("testdata/usb-add.bin")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := m.USB(stick); !ok || u.Port != "2-1:1.0" || u.Class != "08" || u.Vendor != "46f4" || u.Product != "0001" || u.UntrustedMaker != "QEMU" {
		t.Errorf("with sysfs %+v, %v", u, ok)
	}
	if u, ok := m.USB(fstest.MapFS{}); !ok || u != (USB{Port: "2-1:1.0", Class: "08", Vendor: "46f4", Product: "0001"}) {
		t.Errorf("without sysfs %+v, %v", u, ok)
	}
	for key, value := range map[string]string{"INTERFACE": "eight", "DEVTYPE": "usb_device"} {
		other := Message{Path: m.Path, Subsystem: m.Subsystem, Values: map[string]string{"DEVTYPE": "usb_interface", "INTERFACE": "8/6/80", "PRODUCT": "46f4/1/0"}}
		other.Values[key] = value
		if u, ok := other.USB(fstest.MapFS{}); ok {
			t.Errorf("%s=%s reads as %+v", key, value, u)
		}
	}
}

func TestPorts(t *testing.T) {
	for path, want := range map[string]string{
		"/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4.2/1-4.2:1.0/net/eth1":                    "1-4.2:1.0",
		"/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/ttyUSB0/tty/ttyUSB0":                 "1-4:1.0",
		"/devices/pci0000:00/0000:00:04.0/usb2/2-1/2-1:1.0/host2/target2:0:0/2:0:0:0/block/sda": "2-1:1.0",
		"/devices/pci0000:00/0000:00:03.0/virtio0/net/eth0":                                     "",
		"/devices/virtual/net/lo": "",
	} {
		if got := PortOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for _, bad := range []string{"", "-", "1-", "-1", "../../etc", "1-1:1.0/../x", "1-" + strings.Repeat("1", 80), "Anna-1"} {
		if IsPort(bad) {
			t.Errorf("%q is taken for a port", bad)
		}
	}
}
