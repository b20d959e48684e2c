package fanotify

import (
	"golang.org/x/sys/unix"
)

// Spoil puts something in the groups' place that cannot be read.
func Spoil(w *Watch) {
	for _, g := range []*group{&w.changes, &w.execs} {
		unix.Close(g.fd)
		g.fd, _ = unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
}

// Capture gives one read of a group, and what its descriptors hold is lost.
func Capture(w *Watch, execs bool) []byte {
	g := w.changes
	if execs {
		g = w.execs
	}
	b := make([]byte, 4096)
	n, err := unix.Read(g.fd, b)
	if err != nil {
		return nil
	}
	return b[:n]
}
