package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ward/board/qemu-x86_64/guest/init/network"
	"ward/board/qemu-x86_64/guest/init/verity"
	"ward/internal/trust/volume"
)

// Users and groups of the device, as in /etc/passwd and /etc/group.
const (
	uidWard = 900
	gidWard = 900
	uidPump = 901
	gidPump = 901

	gidService = 902
)

const systemModuleList = "/etc/modules.system"

// A system is what the second stage knows about its own start: the steps done
// and the complaints. After the root is mounted nothing is fatal: a device
// whose state partition is broken still runs the medical application.
type system struct {
	steps      map[string]int64
	complaints []string
	services   *supervisor
}

// runSystem is the second stage; it ends in power off.
func runSystem() {
	s := &system{steps: make(map[string]int64)}
	s.step("root", nil)
	s.step("run", errors.Join(mountTemporary(), setHostname()))
	s.services = newSupervisor()
	s.step("modules", loadModules(systemModuleList))
	s.step("network", network.Start())
	s.step("state", mountState())
	s.step("data", mountData())
	s.step("directories", errors.Join(
		makeOwned("/run/ward", uidWard, gidWard, 0o755),
		makeOwned("/run/pump", uidPump, gidPump, 0o755)))
	s.step("grants", grantWard())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGPWR)
	poweroff := make(chan struct{}, 1)
	s.services.start(serviceTable)
	s.step("services", nil)
	go serveControl(s, poweroff)

	select {
	case <-stop:
	case <-poweroff:
	}
	s.shutdown()
}

// step records that a step of the start is done, and complains if it failed.
func (s *system) step(name string, err error) {
	s.steps[name] = uptime().Milliseconds()
	if err != nil {
		say("%s: %v", name, err)
		s.complaints = append(s.complaints, fmt.Sprintf("%s: %v", name, err))
	}
}

// shutdown stops the services, writes everything back and powers off.
func (s *system) shutdown() {
	say("powering off")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.services.stopAll(ctx)
	unix.Sync()
	for _, dir := range []string{"/data", "/var/lib/ward", "/boot"} {
		if err := unix.Unmount(dir, 0); err != nil && err != unix.EINVAL {
			// Something holds it: make it clean at least.
			_ = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("power off: %v", err)
	}
	for {
		time.Sleep(time.Hour)
	}
}

// mountState mounts what Ward keeps. Without it wardd keeps its record in memory.
func mountState() error {
	if err := mountVolume(volume.State, "/var/lib/ward", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC); err != nil {
		return err
	}
	return ownTree("/var/lib/ward", uidWard, gidWard, 0o700)
}

// mountData mounts what the medical application keeps. The pump runs without it.
// What the image has below /data is put there where it is missing.
func mountData() error {
	shipped, err := os.OpenRoot("/data") // the image's own, which the mount covers
	if err != nil {
		return fmt.Errorf("open /data: %w", err)
	}
	defer shipped.Close()
	if err := mountVolume(volume.Data, "/data", unix.MS_NODEV|unix.MS_NOSUID); err != nil {
		return err
	}
	return errors.Join(seed(shipped.FS(), "/data"), makeOwned("/data/pump", uidPump, gidPump, 0o755))
}

// seed copies what is missing in a folder, as root's, with the modes that it has.
func seed(from fs.FS, to string) error {
	return fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("seed %s: %w", to, err)
		}
		target := filepath.Join(to, name)
		if _, err := os.Lstat(target); err == nil || name == "." {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("seed %s: %w", target, err)
		}
		if d.IsDir() {
			err = os.Mkdir(target, info.Mode().Perm())
		} else {
			var b []byte
			if b, err = fs.ReadFile(from, name); err == nil {
				err = os.WriteFile(target, b, info.Mode().Perm())
			}
		}
		if err == nil {
			err = os.Chmod(target, info.Mode().Perm()) // whatever the umask
		}
		if err != nil {
			return fmt.Errorf("seed %s: %w", target, err)
		}
		return nil
	})
}

// mountTemporary mounts what lasts until the power goes; /run is there already.
func mountTemporary() error {
	mounts := []mount{
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=64m"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=16m"},
	}
	var errs []error
	for _, m := range mounts {
		errs = append(errs, m.do())
	}
	return errors.Join(errs...)
}

func setHostname() error {
	name, err := os.ReadFile("/etc/hostname")
	if err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	if err := unix.Sethostname(bytes.TrimSpace(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return nil
}

// mountLabel mounts the partition that carries a GPT label.
func mountLabel(label, target, fstype string, flags uintptr, data string) error {
	p, err := verity.WaitPartition(label, time.Second)
	if err != nil {
		return err
	}
	return mount{p.Node, target, fstype, flags, data}.do()
}

// ownTree gives a directory and all below it to a user, whoever made the file
// system. A tree that is right already is not walked.
func ownTree(root string, uid, gid int, mode os.FileMode) error {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil || int(st.Uid) != uid || int(st.Gid) != gid {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == root {
				return err
			}
			return os.Lchown(path, uid, gid)
		})
		if err != nil {
			return fmt.Errorf("own %s: %w", root, err)
		}
	}
	// The root last: its owner marks the tree as done.
	return makeOwned(root, uid, gid, mode)
}

// makeOwned makes a directory with owner and mode.
func makeOwned(dir string, uid, gid int, mode os.FileMode) error {
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("own directory: %w", err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// grantWard lets the group ward read the measurement logs and use the TPM, so
// that the daemon needs no capability for either.
func grantWard() error {
	grants := []struct {
		path string
		mode os.FileMode
	}{
		{"/sys/kernel/security/tpm0/binary_bios_measurements", 0o440},
		{"/sys/kernel/security/integrity/ima/ascii_runtime_measurements", 0o440},
		{"/sys/kernel/security/integrity/ima/binary_runtime_measurements", 0o440},
		{"/sys/kernel/security/integrity/ima/runtime_measurements_count", 0o440},
		{"/sys/kernel/security/integrity/ima/violations", 0o440},
		{"/dev/tpmrm0", 0o660},
		{"/sys/class/dmi/id/product_serial", 0o440},
	}
	var errs []error
	for _, g := range grants {
		if err := os.Chown(g.path, 0, gidWard); err != nil {
			errs = append(errs, fmt.Errorf("grant: %w", err))
			continue
		}
		if err := os.Chmod(g.path, g.mode); err != nil {
			errs = append(errs, fmt.Errorf("grant: %w", err))
		}
	}
	return errors.Join(errs...)
}
