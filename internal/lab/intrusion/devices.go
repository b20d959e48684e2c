package intrusion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"ward/internal/lab/stage"
)

func fileMode(m uint32) fs.FileMode { return fs.FileMode(m) }

// stick is the file behind the memory stick, in bytes.
const stickSize = 1 << 20

// plug puts a memory stick into the device's USB port through QEMU's monitor.
func plug(ctx context.Context, s *stage.Stage) error {
	file := s.File("stick.img")
	if err := os.WriteFile(file, make([]byte, stickSize), 0o600); err != nil {
		return err
	}
	return monitor(ctx, s, "drive_add 0 if=none,id=stick,format=raw,file="+file, "device_add usb-storage,id=us0,drive=stick,bus=xhci.0")
}

func unplug(ctx context.Context, s *stage.Stage) error {
	return errors.Join(monitor(ctx, s, "device_del us0"), os.Remove(s.File("stick.img")))
}

// monitor gives commands to QEMU's human monitor, which says nothing but "OK" or
// an error to these.
func monitor(ctx context.Context, s *stage.Stage, commands ...string) error {
	for _, c := range commands {
		said, err := s.VM.Monitor(ctx, c)
		if err != nil {
			return err
		}
		if said = strings.TrimSpace(said); strings.Contains(said, "Error") || strings.Contains(said, "error") {
			return fmt.Errorf("QEMU: %s: %s", c, said)
		}
	}
	return nil
}
