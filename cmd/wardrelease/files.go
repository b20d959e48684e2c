package main

import (
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"ward/internal/trust/baseline"
)

// deviceNumbers reads a device file's numbers on Linux.
func deviceNumbers(info fs.FileInfo) (baseline.Device, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return baseline.Device{}, fmt.Errorf("read device numbers of %s: not supported here", info.Name())
	}
	return baseline.Device{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}, nil
}
