package hotplug

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"ward/internal/device/uevent"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/watch"
)

// person is planted wherever a device can carry a text.
const person = "Anna Petersen"

// device is the device under test: its kernel, its sysfs, its modes, its record.
type device struct {
	mu      sync.Mutex
	lines   []string
	hints   []string
	sysfs   fstest.MapFS
	policy  watch.Policy
	service bool
	changed chan struct{}
	told    map[string]bool
	say     chan uevent.Message
	fail    chan error
	open    error
	closed  int
	start   time.Time
}

func newDevice() *device {
	return &device{
		sysfs: fstest.MapFS{}, policy: watch.Default(), changed: make(chan struct{}), told: make(map[string]bool), say: make(chan uevent.Message),
		fail: make(chan error), start: time.Now().Add(-time.Hour),
	}
}

func (d *device) Record(_ context.Context, e event.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := strings.TrimPrefix(e.Type, "ward.device.") + " " + e.Subject + " " + string(e.Report)
	if f := e.Finding; f != nil {
		text = fmt.Sprintf("%s %s %s: %s", strings.TrimPrefix(e.Type, "ward.finding."), e.Subject, f.Code, f.Detail)
	}
	d.lines = append(d.lines, text)
	return nil
}

// take gives what was recorded since it was last asked.
func (d *device) take() string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	out := strings.Join(d.lines, "\n")
	d.lines = nil
	return out
}

func (d *device) Receive(ctx context.Context) (uevent.Message, error) {
	select {
	case <-ctx.Done():
		return uevent.Message{}, ctx.Err()
	case err := <-d.fail:
		return uevent.Message{}, err
	case m := <-d.say:
		return m, nil
	}
}

func (d *device) Close() error { d.closed++; return nil }

func (d *device) Open(name string) (fs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sysfs.Open(name)
}

func (d *device) On() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.service }
func (d *device) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *device) serve(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.service = on
	close(d.changed)
	d.changed = make(chan struct{})
}

// plug puts a device of one interface into sysfs.
func (d *device) plug(port, class, vendor, product string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, _, _ := strings.Cut(port, ":")
	for name, text := range map[string]string{
		dev + "/idVendor": vendor, dev + "/idProduct": product, dev + "/manufacturer": "Phone of " + person, dev + "/product": person + "'s phone",
		dev + "/serial": "SN-" + person, port + "/bInterfaceClass": class,
	} {
		d.sysfs["bus/usb/devices/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
}

func (d *device) unplug(port string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, _, _ := strings.Cut(port, ":")
	for name := range d.sysfs {
		if strings.HasPrefix(name, "bus/usb/devices/"+dev) {
			delete(d.sysfs, name)
		}
	}
}

// usb is the kernel's message about an interface.
func usb(action, port, class, product string) uevent.Message {
	return uevent.Message{Action: action, Subsystem: "usb", Path: "/devices/pci0000:00/0000:00:04.0/usb1/1-1/" + port, Values: map[string]string{
		"DEVTYPE": "usb_interface", "INTERFACE": class, "PRODUCT": product,
	}}
}

func (d *device) run(t *testing.T) (w *Watch, stop func()) {
	w = New(Config{
		Open:  func() (Source, error) { d.mu.Lock(); defer d.mu.Unlock(); return d, d.open },
		SysFS: d, Policy: func() watch.Policy { d.mu.Lock(); defer d.mu.Unlock(); return d.policy }, Service: d, Now: func() time.Duration { return time.Since(d.start) },
		Hide: func(s string) string { return fmt.Sprintf("~%d", len(s)) }, Hint: func(r string) { d.mu.Lock(); defer d.mu.Unlock(); d.hints = append(d.hints, r) },
		First: func(_ context.Context, subject string, f finding.Finding) bool {
			key := subject + string(f.Code) + f.Found
			again := d.told[key]
			d.told[key] = true
			return !again
		},
		Recorder: d,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = w.Run(ctx); close(done) }()
	synctest.Wait()
	return w, func() { cancel(); <-done }
}

// expect compares what is recorded, and wants the person named nowhere.
func (d *device) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	got := d.take()
	if got != strings.Join(want, "\n") {
		t.Errorf("%s: recorded\n%s\nwant\n%s", what, got, strings.Join(want, "\n"))
	}
	if strings.Contains(got, "Anna") || strings.Contains(got, "Petersen") {
		t.Errorf("%s: a name leaves the device: %s", what, got)
	}
}

const (
	stickIs    = `{"kind":"usb","port":"1-1:1.0","bus":"usb","class":"08","vendor":"46f4","product":"0001","serial":"~16","expected":false}`
	stickWords = "class 08 (mass storage), vendor 46f4, product 0001, at port 1-1:1.0"
)

// A stick is told when it is plugged in, every time, and a condition holds while it is
// there; nothing that it says of itself leaves the device.
//
// Verifies: SR-099
func TestStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice()
		w, stop := d.run(t)
		defer stop()
		d.expect(t, "with nothing")
		for range 2 {
			d.plug("1-1:1.0", "08", "46f4", "0001")
			d.say <- usb("add", "1-1:1.0", "8/6/80", "46f4/1/0")
			d.expect(t, "plugged in", "attached usb/1-1:1.0 "+stickIs, "incident usb/1-1:1.0 usb.storage-inserted: "+stickWords, "raised usb/1-1:1.0 usb.present-unexpected: "+stickWords)
			if p := w.Present(); len(p) != 1 || p[0].Expected || p[0].UntrustedName != person+"'s phone" {
				t.Errorf("there is %+v", p)
			}
			time.Sleep(time.Hour)
			d.expect(t, "an hour later")
			d.unplug("1-1:1.0")
			d.say <- usb("remove", "1-1:1.0", "8/6/80", "46f4/1/0")
			d.expect(t, "taken away", "detached usb/1-1:1.0 "+stickIs, "cleared usb/1-1:1.0 usb.present-unexpected: "+stickWords)
		}
		// It has gone before it was looked at: the message says what it was.
		d.say <- usb("add", "1-1:1.0", "8/6/80", "46f4/1/0")
		gone := strings.Replace(stickIs, `"serial":"~16",`, "", 1)
		d.expect(t, "gone at once", "attached usb/1-1:1.0 "+gone, "incident usb/1-1:1.0 usb.storage-inserted: "+stickWords, "raised usb/1-1:1.0 usb.present-unexpected: "+stickWords)
		if len(w.Present()) != 1 {
			t.Error("it is not remembered")
		}
	})
}

// The first rule of the release that fits decides, and a mode or a release that changes
// is held against what is there.
//
// Verifies: SR-099
func TestPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice()
		d.policy.USB = []watch.USB{{Class: "03", Vendor: "046d", Product: "c31c", When: watch.Never}, {Class: "03", Vendor: "046d", When: watch.Always}, {Class: "03", When: watch.Service}}
		d.plug("1-2:1.0", "03", "046d", "c31c")
		d.plug("1-3:1.0", "03", "046d", "0001")
		d.plug("1-4:1.0", "03", "1234", "0001")
		d.plug("1-5:1.0", "e0", "1234", "0002")
		d.plug("1-6:1.0", "09", "1234", "0002") // no rule fits
		w, stop := d.run(t)
		input := "class 03 (keyboard, mouse or other input), vendor "
		d.expect(t, "at the start",
			"incident usb/1-2:1.0 usb.unexpected-class: "+input+"046d, product c31c, at port 1-2:1.0", "raised usb/1-2:1.0 usb.present-unexpected: "+input+"046d, product c31c, at port 1-2:1.0",
			"incident usb/1-4:1.0 usb.unexpected-class: "+input+"1234, product 0001, at port 1-4:1.0", "raised usb/1-4:1.0 usb.present-unexpected: "+input+"1234, product 0001, at port 1-4:1.0",
			"incident usb/1-5:1.0 usb.unexpected-class: class e0 (wireless), vendor 1234, product 0002, at port 1-5:1.0", "raised usb/1-5:1.0 usb.present-unexpected: class e0 (wireless), vendor 1234, product 0002, at port 1-5:1.0",
			"incident usb/1-6:1.0 usb.unexpected-class: class 09 (hub), vendor 1234, product 0002, at port 1-6:1.0", "raised usb/1-6:1.0 usb.present-unexpected: class 09 (hub), vendor 1234, product 0002, at port 1-6:1.0")
		d.serve(true)
		d.expect(t, "service mode", "cleared usb/1-4:1.0 usb.present-unexpected: "+input+"1234, product 0001, at port 1-4:1.0")
		d.serve(false)
		d.expect(t, "and its end", "raised usb/1-4:1.0 usb.present-unexpected: "+input+"1234, product 0001, at port 1-4:1.0")
		d.mu.Lock()
		d.policy.USB = []watch.USB{{Class: "*", When: watch.Always}}
		d.mu.Unlock()
		time.Sleep(rejudge)
		if got := d.take(); strings.Count(got, "cleared ") != 4 {
			t.Errorf("another release: %s", got)
		}
		for _, p := range w.Present() {
			if !p.Expected {
				t.Errorf("not expected: %+v", p)
			}
		}
		stop()

		// The daemon's next start in this boot tells no incident again.
		d.policy.USB = nil
		_, stop = d.run(t)
		defer stop()
		if got := d.take(); strings.Count(got, "raised ") != 5 || strings.Count(got, "incident ") != 1 { // 1-3, which was allowed
			t.Errorf("behind a restart: %s", got)
		}
	})
}

func at(action, subsystem, path string, values ...string) uevent.Message {
	m := uevent.Message{Action: action, Subsystem: subsystem, Path: path, Values: map[string]string{}}
	for i := 0; i+1 < len(values); i += 2 {
		m.Values[values[i]] = values[i+1]
	}
	return m
}

// Network interfaces, serial adapters, disks and errors of dm-verity.
//
// Verifies: SR-099
func TestOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice()
		d.policy.USB = []watch.USB{{Class: "02", When: watch.Always}, {Class: "ff", When: watch.Service}}
		d.plug("1-1:1.0", "02", "0bda", "8153")
		d.plug("1-2:1.0", "ff", "0403", "6001")
		_, stop := d.run(t)
		defer stop()
		if got := d.take(); strings.Count(got, "\n") != 1 {
			t.Errorf("at the start: %s", got)
		}
		const pci, onUSB = "/devices/pci0000:00/0000:00:03.0", "/devices/pci0000:00/0000:00:04.0/usb1/1-1/1-1:1.0"
		const serialUSB = "/devices/pci0000:00/0000:00:04.0/usb1/1-2/1-2:1.0"
		for _, row := range []struct {
			m    uevent.Message
			want []string
		}{
			{at("add", "net", pci+"/virtio0/net/eth1"), []string{`attached network/eth1 {"kind":"network","name":"eth1","bus":"board"}`, "incident network/eth1 network.interface-added: eth1, by way of: the board"}},
			{at("move", "net", pci+"/virtio0/net/"+person), nil},
			{at("remove", "net", pci+"/virtio0/net/eth1"), []string{`detached network/eth1 {"kind":"network","name":"eth1","bus":"board"}`}},
			{at("add", "net", onUSB+"/net/usb0"), []string{`attached network/usb0 {"kind":"network","name":"usb0","port":"1-1:1.0","bus":"usb","expected":true}`}},
			{at("add", "net", serialUSB+"/net/wwan0"), []string{`attached network/wwan0 {"kind":"network","name":"wwan0","port":"1-2:1.0","bus":"usb","expected":false}`, "incident network/wwan0 network.interface-added: wwan0, by way of: USB port 1-2:1.0"}},
			{at("add", "net", "/devices/virtual/net/"+person), []string{`attached network/~13 {"kind":"network","name":"~13","bus":"virtual"}`, "incident network/~13 network.interface-added: ~13, by way of: software"}},
			{at("add", "tty", serialUSB+"/ttyUSB0/tty/ttyUSB0"), []string{`attached serial/ttyUSB0 {"kind":"serial","name":"ttyUSB0","port":"1-2:1.0","bus":"usb","expected":false}`, "incident serial/ttyUSB0 serial.adapter-added: ttyUSB0, at USB port 1-2:1.0"}},
			{at("remove", "tty", serialUSB+"/ttyUSB0/tty/ttyUSB0"), []string{`detached serial/ttyUSB0 {"kind":"serial","name":"ttyUSB0","port":"1-2:1.0","bus":"usb","expected":false}`}},
			{at("add", "tty", onUSB+"/tty/ttyACM0"), []string{`attached serial/ttyACM0 {"kind":"serial","name":"ttyACM0","port":"1-1:1.0","bus":"usb","expected":true}`}},
			{at("add", "tty", "/devices/platform/serial8250/tty/ttyS4"), nil},
			{at("add", "block", pci+"/nvme/nvme0/nvme0n1", "DEVTYPE", "disk"), []string{`attached block/nvme0n1 {"kind":"block","name":"nvme0n1","bus":"board"}`}},
			{at("add", "block", pci+"/nvme/nvme0/nvme0n1/nvme0n1p1", "DEVTYPE", "partition"), nil},
			{at("add", "block", serialUSB+"/host2/target2:0:0/2:0:0:0/block/sda", "DEVTYPE", "disk"), []string{`attached block/sda {"kind":"block","name":"sda","port":"1-2:1.0","bus":"usb","expected":false}`}},
			{at("add", "block", "/devices/virtual/block/loop8", "DEVTYPE", "disk"), nil},
			{at("change", "block", "/devices/virtual/block/dm-0", "DM_VERITY_ERR_BLOCK_NR", "0,1234"), []string{"incident block/dm-0 storage.verity-error: dm-0, block 1234 of data"}},
			{at("change", "block", "/devices/virtual/block/dm-0", "DM_VERITY_ERR_BLOCK_NR", "0,1234"), nil}, // the same again
			{at("change", "block", "/devices/virtual/block/dm-0", "DM_VERITY_ERR_BLOCK_NR", "1,7"), []string{"incident block/dm-0 storage.verity-error: dm-0, block 7 of the hash tree"}},
			{at("add", "net", pci+"/virtio0/net/eth2", "SYNTH_UUID", "0"), nil}, // udev starts
			{at("add", "module", "/module/"+person), nil},
			{at("add", "power_supply", "/devices/virtual/power_supply/"+person), nil},
			{at("add", "usb", "/devices/pci0000:00/usb1/"+person, "DEVTYPE", "usb_interface", "INTERFACE", "8/6/80"), nil},
		} {
			d.say <- row.m
			d.expect(t, row.m.Action+" "+row.m.Path, row.want...)
		}
		if got := fmt.Sprint(d.hints); got != "[block block block block module]" {
			t.Errorf("hints %s", got)
		}
	})
}

// The board's own interfaces may come while it starts up.
func TestStartUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice()
		d.start = time.Now()
		_, stop := d.run(t)
		defer stop()
		d.say <- at("add", "net", "/devices/pci0000:00/0000:00:03.0/net/eth0")
		d.expect(t, "the board's own", `attached network/eth0 {"kind":"network","name":"eth0","bus":"board"}`)
		d.say <- at("add", "net", "/devices/virtual/net/tun0")
		d.expect(t, "a tunnel", `attached network/tun0 {"kind":"network","name":"tun0","bus":"virtual"}`, "incident network/tun0 network.interface-added: tun0, by way of: software")
		time.Sleep(settled)
		d.say <- at("add", "net", "/devices/pci0000:00/0000:00:03.0/net/eth1")
		if got := d.take(); !strings.Contains(got, "network.interface-added") {
			t.Errorf("later: %s", got)
		}
	})
}

// Lost messages, a source that breaks off and one that cannot be opened are told; what
// is there is looked at anew each time.
//
// Verifies: SR-099
func TestFailuresOfTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice()
		d.open = errors.New("address family not supported")
		d.plug("1-1:1.0", "08", "46f4", "0001")
		_, stop := d.run(t)
		defer stop()
		raised := "raised usb/1-1:1.0 usb.present-unexpected: " + stickWords
		d.expect(t, "no socket", "raised hotplug hotplug.not-watched: address family not supported", "incident usb/1-1:1.0 usb.storage-inserted: "+stickWords, raised)
		d.mu.Lock()
		d.open = nil
		d.mu.Unlock()
		time.Sleep(retryEvery)
		d.expect(t, "it opens", "cleared hotplug hotplug.not-watched: the kernel is heard again")
		d.unplug("1-1:1.0")
		d.plug("1-2:1.0", "08", "46f4", "0001")
		d.fail <- fmt.Errorf("hear: %w", uevent.ErrLost)
		other := strings.ReplaceAll(stickWords, "1-1:", "1-2:")
		d.expect(t, "messages are lost", "incident hotplug hotplug.events-lost: the kernel had more to say than was taken", "incident usb/1-2:1.0 usb.storage-inserted: "+other, "raised usb/1-2:1.0 usb.present-unexpected: "+other,
			"cleared usb/1-1:1.0 usb.present-unexpected: "+stickWords)
		d.fail <- fmt.Errorf("parse: %w", uevent.ErrForm)
		d.expect(t, "a message that cannot be read")
		d.fail <- errors.New("it broke")
		d.expect(t, "it breaks off", "raised hotplug hotplug.not-watched: it broke")
		time.Sleep(retryEvery)
		d.expect(t, "and is there again", "cleared hotplug hotplug.not-watched: the kernel is heard again")
		if d.closed != 1 {
			t.Errorf("closed %d times", d.closed)
		}
	})
}

// More than is remembered is told, and no condition is left that nobody clears.
func TestMoreThanIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice()
		w, stop := d.run(t)
		defer stop()
		for i := range 2 * maxPresent {
			d.say <- usb("add", fmt.Sprintf("1-1.%d:1.0", i), "8/6/80", "46f4/1/0")
		}
		got := d.take()
		if len(w.Present()) != maxPresent || strings.Count(got, "incident ") != 2*maxPresent || strings.Count(got, "raised ") != maxPresent {
			t.Errorf("%d remembered, %d incidents, %d conditions", len(w.Present()), strings.Count(got, "incident "), strings.Count(got, "raised "))
		}
		for i := range 2 * maxPresent {
			d.say <- usb("remove", fmt.Sprintf("1-1.%d:1.0", i), "8/6/80", "46f4/1/0")
		}
		if got := d.take(); len(w.Present()) != 0 || strings.Count(got, "cleared ") != maxPresent {
			t.Errorf("%d remembered, %d cleared", len(w.Present()), strings.Count(got, "cleared "))
		}
	})
}
