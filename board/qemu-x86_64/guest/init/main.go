// Command init is process 1 of the virtual device, twice. As /init in the
// initramfs it writes the IMA policy, loads the modules of the boot path, opens
// the dm-verity root file system named by the signed command line, has programs of
// that file system open the encrypted volumes, and hands over. As /sbin/init in that file system it mounts the rest, starts the
// network and the services, and serves the lab's control channel.
//
// Sources: kernel Documentation/admin-guide/device-mapper/verity.rst,
// Documentation/ABI/testing/ima_policy, Documentation/filesystems/
// ramfs-rootfs-initramfs.rst.
package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: runs only as process 1 of the virtual device")
		os.Exit(2)
	}
	if os.Args[0] == secondStage {
		runSystem()
		return
	}
	if err := runInitramfs(); err != nil {
		fatal(err)
	}
}

// fatal prints one line on the console and powers off: a device whose root
// file system cannot be proved must not run, and must not hang either.
func fatal(err error) {
	say("cannot boot: %v; powering off", err)
	unix.Sync()
	time.Sleep(200 * time.Millisecond) // lets the serial port drain
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("power off: %v", err)
	}
	for {
		time.Sleep(time.Hour) // process 1 must not exit: the kernel would panic
	}
}

// say writes one line to the console.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "init: "+format+"\n", args...)
}

// uptime is the time since the kernel started.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
