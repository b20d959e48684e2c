package hotplug

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ward/internal/device/uevent"
	"ward/internal/trust/event"
)

// told is a journal that somebody waits at.
type told chan event.Event

func (c told) Record(_ context.Context, e event.Event) error { c <- e; return nil }

// A tunnel that is made on this machine is told by its kernel, and its end too. The
// test has a network namespace of its own, so that nobody else hears of it.
//
// Verifies: SR-099
func TestARealKernelTellsOfATunnel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may make a tunnel")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace can be made: ", err)
	}
	source, err := uevent.Open()
	if err != nil {
		t.Fatal(err)
	}
	d, events := newDevice(), make(told, 100)
	w := New(Config{
		Open: func() (Source, error) { return source, nil }, SysFS: os.DirFS(t.TempDir()), Policy: nil, Service: d, Now: func() time.Duration { return time.Hour },
		Hide: func(string) string { return "~" }, Recorder: events,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = w.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()

	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("there are no tunnels: ", err)
	}
	request, err := unix.NewIfreq("tun%d")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(tun, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(tun)
		t.Skip("a tunnel cannot be made: ", err)
	}
	name := request.Name()
	await := func(want ...string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for len(want) > 0 {
			select {
			case e := <-events:
				text := e.Type + " " + e.Subject
				if e.Finding != nil {
					text += " " + string(e.Finding.Code)
				}
				if text == want[0] {
					want = want[1:]
				} else if strings.Contains(text, name) {
					t.Errorf("recorded %s, want %s", text, want[0])
				}
			case <-deadline:
				t.Fatalf("not told: %s", want[0])
			}
		}
	}
	await("ward.device.attached network/"+name, "ward.finding.incident network/"+name+" network.interface-added")
	if err := unix.Close(tun); err != nil {
		t.Fatal(err)
	}
	await("ward.device.detached network/" + name)
}
