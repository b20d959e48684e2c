// Package network gives the virtual device its addresses: loopback and the first
// network card, by the ioctls of netdevice(7).
package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The device's address in QEMU's user network; the broker's forward is at
// 10.0.2.100. There is no route beyond: the network is restricted.
var (
	addressLoopback = [4]byte{127, 0, 0, 1}
	addressDevice   = [4]byte{10, 0, 2, 15}
	mask8           = [4]byte{255, 0, 0, 0}
	mask24          = [4]byte{255, 255, 255, 0}
)

// Start brings up loopback and the first virtio network card.
func Start() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	if err := configure(fd, "lo", addressLoopback, mask8); err != nil {
		return err
	}
	card, err := firstCard("/sys/class/net")
	if err != nil {
		return nil // a device booted without a network card
	}
	return configure(fd, card, addressDevice, mask24)
}

// firstCard is the first network interface that has a device behind it.
func firstCard(class string) (string, error) {
	found, err := filepath.Glob(filepath.Join(class, "*", "device"))
	if err != nil || len(found) == 0 {
		return "", errors.Join(os.ErrNotExist, err)
	}
	return filepath.Base(filepath.Dir(found[0])), nil
}

// configure sets address and mask and brings the interface up, netdevice(7).
func configure(fd int, name string, address, mask [4]byte) error {
	if err := ioctlIfreq(fd, unix.SIOCSIFADDR, name, sockaddrIn(address)); err != nil {
		return fmt.Errorf("set address of %s: %w", name, err)
	}
	if err := ioctlIfreq(fd, unix.SIOCSIFNETMASK, name, sockaddrIn(mask)); err != nil {
		return fmt.Errorf("set mask of %s: %w", name, err)
	}
	flags := binary.NativeEndian.AppendUint16(nil, unix.IFF_UP|unix.IFF_RUNNING)
	if err := ioctlIfreq(fd, unix.SIOCSIFFLAGS, name, flags); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

// sockaddrIn encodes struct sockaddr_in with port zero.
func sockaddrIn(address [4]byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	b = append(b, 0, 0)
	return append(b, address[:]...)
}

// ioctlIfreq passes struct ifreq: 16 bytes of name, then 24 of payload.
func ioctlIfreq(fd int, request uintptr, name string, payload []byte) error {
	var ifreq [40]byte
	copy(ifreq[:15], name)
	copy(ifreq[16:], payload)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&ifreq[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
