package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"ward/internal/lab/control"
)

// Config says how a device is booted.
type Config struct {
	Device     *Device
	Firmware   string // OVMF's code
	BrokerPort int    // port of 127.0.0.1 behind 10.0.2.100:8883; zero for none
	// RegistrarPort is the one behind 10.0.2.101:8443; zero for none.
	RegistrarPort int
	Serial        string    // the serial number that the firmware tells, in SMBIOS
	NoNetwork     bool      // no network card at all
	NoTPM         bool      // no TPM
	CPUs          int       // 2 when zero
	MemoryMiB     int       // 512 when zero
	Console       io.Writer // sees the serial console while it runs; may be nil
	Extra         []string  // further arguments for QEMU
}

// A VM is a running device.
type VM struct {
	device  *Device
	started time.Time
	sockets string
	qemu    *process
	tpm     *process // nil without a TPM
	console *tail

	writing sync.Mutex    // one request at a time
	ready   chan struct{} // closed when the ready line has come
	mu      sync.Mutex
	state   control.Ready
	readyAt time.Time
	conn    net.Conn
	nextID  uint64
	pending map[uint64]chan control.Response
	lost    error // why the control channel ended

	closing sync.Once
}

// consoleLimit is how much of the console is kept.
const consoleLimit = 1 << 20

// Start boots the device. It returns when QEMU runs; WaitReady waits for the
// system inside.
func Start(ctx context.Context, c Config) (*VM, error) {
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 512
	}
	dir, err := socketDir()
	if err != nil {
		return nil, err
	}
	v := &VM{
		device: c.Device, sockets: dir, console: newTail(consoleLimit),
		ready: make(chan struct{}), pending: make(map[uint64]chan control.Response),
	}
	v.console.mirror = c.Console
	if err := v.start(ctx, c); err != nil {
		v.Kill()
		return nil, fmt.Errorf("start device: %w", err)
	}
	return v, nil
}

func (v *VM) start(ctx context.Context, c Config) error {
	var err error
	if !c.NoTPM {
		if v.tpm, err = startTPM(ctx, c.Device, v.sockets+"/tpm", "--terminate"); err != nil {
			return err
		}
	}
	v.started = time.Now()
	if v.qemu, err = startProcess("qemu-system-x86_64", v.console, arguments(c, v.sockets)...); err != nil {
		return err
	}
	if err := waitSocket(ctx, v.qemu, v.sockets+"/ctl"); err != nil {
		return err
	}
	if v.conn, err = dialWhenReady(ctx, v.qemu, v.sockets+"/ctl"); err != nil {
		return fmt.Errorf("connect control channel: %w", err)
	}
	go v.readControl()
	return nil
}

// arguments is QEMU's command line.
func arguments(c Config, sockets string) []string {
	args := []string{
		"-name", "ward", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "tcg,thread=multi",
		"-machine", "q35,smm=on", "-cpu", "max,la57=off",
		"-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.MemoryMiB),
		// Only system management mode may write the variable store.
		"-global", "driver=cfi.pflash01,property=secure,value=on",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + comma(c.Firmware),
		"-drive", "if=pflash,unit=1,format=raw,file=" + comma(c.Device.Variables()),
		"-drive", "if=none,id=disk,format=raw,file=" + comma(c.Device.Disk()),
		"-device", "nvme,drive=disk,serial=ward0,bootindex=0",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=ctl,server=on,wait=off,path=" + comma(sockets+"/ctl"),
		"-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=ctl,name=" + control.PortName,
		"-chardev", "socket,id=mon,server=on,wait=off,path=" + comma(sockets+"/mon"),
		"-mon", "chardev=mon,mode=readline",
		"-device", "qemu-xhci,id=xhci",
	}
	if !c.NoTPM {
		args = append(args,
			"-chardev", "socket,id=tpm,path="+comma(sockets+"/tpm"),
			"-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	if !c.NoNetwork {
		netdev := "user,id=net0,restrict=on"
		for address, port := range map[string]int{"10.0.2.100:8883": c.BrokerPort, "10.0.2.101:8443": c.RegistrarPort} {
			if port != 0 {
				// A command serves each connection anew; a chardev would serve one.
				netdev += fmt.Sprintf(",guestfwd=tcp:%s-cmd:socat - TCP:127.0.0.1:%d", address, port)
			}
		}
		// Without a ROM file the card measures nothing into PCR 2.
		args = append(args, "-netdev", netdev, "-device", "virtio-net-pci,netdev=net0,romfile=")
	}
	if c.Serial != "" {
		args = append(args, "-smbios", "type=1,serial="+comma(c.Serial))
	}
	return append(args, c.Extra...)
}

// comma protects a path in an option list of QEMU.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// Console is what the serial console has shown, the newest megabyte.
func (v *VM) Console() string {
	text, _ := v.console.snapshot()
	return text
}

// WaitConsole waits until the console shows text.
func (v *VM) WaitConsole(ctx context.Context, text string) error {
	for {
		have, grew := v.console.snapshot()
		if strings.Contains(have, text) {
			return nil
		}
		select {
		case <-grew:
		case <-v.qemu.done:
			if have, _ = v.console.snapshot(); strings.Contains(have, text) {
				return nil
			}
			return fmt.Errorf("wait for %q on the console: %w", text, v.qemu.failure())
		case <-ctx.Done():
			return fmt.Errorf("wait for %q on the console: %w; last line: %s", text, ctx.Err(), v.console.lastLine())
		}
	}
}

// WaitReady waits until the device is up.
func (v *VM) WaitReady(ctx context.Context) error {
	select {
	case <-v.ready:
		return nil
	case <-v.qemu.done:
		return fmt.Errorf("boot device: %w; the console's last line: %s", v.qemu.failure(), v.console.lastLine())
	case <-ctx.Done():
		return fmt.Errorf("boot device: not ready after %v: %w; the console's last line: %s",
			time.Since(v.started).Round(time.Second), ctx.Err(), v.console.lastLine())
	}
}

// Ready is what the device said about itself when it was up, and how long after
// the start of QEMU. It is the zero value before.
func (v *VM) Ready() (control.Ready, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.readyAt.IsZero() {
		return control.Ready{}, 0
	}
	return v.state, v.readyAt.Sub(v.started)
}

// Exited is closed when the device has switched off.
func (v *VM) Exited() <-chan struct{} { return v.qemu.done }

// Wait waits until the device has switched itself off.
func (v *VM) Wait(ctx context.Context) error {
	select {
	case <-v.qemu.done:
		v.Kill()
		if v.qemu.err != nil {
			return v.qemu.failure()
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the device to switch off: %w", ctx.Err())
	}
}

// Shutdown asks the device to stop its services and switch off, and waits. When
// ctx ends first the power is cut and the error says so.
func (v *VM) Shutdown(ctx context.Context) error {
	if _, err := v.Do(ctx, control.Request{Argv: []string{control.VerbPowerOff}}); err != nil {
		v.Kill()
		return fmt.Errorf("shut down: %w; the power was cut", err)
	}
	if err := v.Wait(ctx); err != nil {
		v.Kill()
		return fmt.Errorf("shut down: %w; the power was cut", err)
	}
	return nil
}

// Kill cuts the power: what the device has not written is lost. It may be
// called again, and after every other end.
func (v *VM) Kill() {
	v.closing.Do(func() {
		if v.qemu != nil {
			v.qemu.kill()
		}
		if v.conn != nil {
			v.conn.Close()
		}
		if v.tpm != nil {
			// It ends by itself when QEMU has gone.
			select {
			case <-v.tpm.done:
			case <-time.After(2 * time.Second):
				v.tpm.kill()
			}
		}
		os.RemoveAll(v.sockets)
	})
}

// Monitor gives a command to QEMU's monitor, such as device_add, and returns
// what it printed.
func (v *VM) Monitor(ctx context.Context, command string) (string, error) {
	conn, err := net.Dial("unix", v.sockets+"/mon")
	if err != nil {
		return "", fmt.Errorf("connect monitor: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	const prompt = "(qemu) "
	read := func() (string, error) {
		var text strings.Builder
		buf := make([]byte, 4096)
		for !strings.HasSuffix(text.String(), prompt) {
			n, err := conn.Read(buf)
			text.Write(buf[:n])
			if err != nil {
				return "", errors.Join(ctx.Err(), err)
			}
		}
		return strings.TrimSuffix(text.String(), prompt), nil
	}
	if _, err := read(); err != nil {
		return "", fmt.Errorf("greet monitor: %w", err)
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", fmt.Errorf("command monitor: %w", err)
	}
	text, err := read()
	if err != nil {
		return "", fmt.Errorf("command monitor: %w", err)
	}
	// The monitor echoes the command on the first line.
	_, answer, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(answer), nil
}
