package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ward/board/qemu-x86_64/guest/init/verity"
)

// Places in the initramfs and in the root file system. The image builder
// writes them.
const (
	secondStage   = "/sbin/init"
	policyFile    = "/etc/ima-policy"
	moduleList    = "/etc/modules.initramfs"
	newRoot       = "/newroot"
	imaPolicyNode = "/sys/kernel/security/ima/policy"
)

// A mount is one call of mount(2) at start.
type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

var initramfsMounts = []mount{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"securityfs", "/sys/kernel/security", "securityfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
}

// runInitramfs does, in this order: mount the pseudo file systems, write the
// IMA policy, load modules, open the verified root, move there, open the
// encrypted volumes. It returns only on failure.
func runInitramfs() error {
	for _, m := range initramfsMounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	if err := openConsole(); err != nil {
		return err
	}
	if err := writeIMAPolicy(policyFile, imaPolicyNode); err != nil {
		return err
	}
	if err := loadModules(moduleList); err != nil {
		return err
	}
	// efivarfs is a module in Debian's kernel, so it comes after them.
	efivars := mount{"efivarfs", "/sys/firmware/efi/efivars", "efivarfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY, ""}
	if err := efivars.do(); err != nil {
		say("%v", err) // the device works without it
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read kernel command line: %w", err)
	}
	root, err := verity.ParseCmdline(string(cmdline))
	if err != nil {
		return err
	}
	device, err := root.Open()
	if err != nil {
		return err
	}
	rootMount := mount{device, newRoot, root.FSType, unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID, ""}
	if err := rootMount.do(); err != nil {
		return err
	}
	return switchRoot(newRoot)
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

// openConsole makes /dev/console standard input, output and error: an initramfs
// without device nodes starts process 1 without them.
func openConsole() error {
	fd, err := unix.Open("/dev/console", unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	for i := range 3 {
		if fd == i {
			continue
		}
		if err := unix.Dup3(fd, i, 0); err != nil {
			return fmt.Errorf("open console: %w", err)
		}
	}
	return nil
}

// writeIMAPolicy loads the custom policy. The kernel takes one rule a write
// (ima_write_policy, security/integrity/ima/ima_fs.c), and the policy becomes
// active when the file is closed.
func writeIMAPolicy(file, node string) error {
	policy, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read IMA policy: %w", err)
	}
	f, err := os.OpenFile(node, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open IMA policy node: %w", err)
	}
	for n, line := range bytes.Split(policy, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			f.Close()
			return fmt.Errorf("write IMA policy, line %d: %w", n+1, err)
		}
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("activate IMA policy: %w", err)
	}
	return nil
}

// loadModules inserts the modules listed in file, one path a line, in order.
// finit_module gives the kernel the file, so that IMA measures it by name.
func loadModules(file string) error {
	list, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read module list: %w", err)
	}
	for path := range strings.Lines(string(list)) {
		path = strings.TrimSpace(path)
		if path == "" || path[0] == '#' {
			continue
		}
		if err := loadModule(path); err != nil {
			return err
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load module %s: %w", filepath.Base(path), err)
	}
	return nil
}

// switchRoot moves the mounts into root, empties the initramfs, makes root the
// root, has it open the encrypted volumes and executes the second stage.
func switchRoot(root string) error {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move mount %s: %w", dir, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	emptyInitramfs(root)
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	openVolumes()
	env := []string{"PATH=/usr/bin:/usr/sbin", "HOME=/", "TERM=dumb"}
	if err := unix.Exec(secondStage, []string{secondStage}, env); err != nil {
		return fmt.Errorf("execute %s: %w", secondStage, err)
	}
	return nil
}

// emptyInitramfs frees the memory of the initramfs. What cannot be removed
// stays; the mount points moved away are empty directories by now.
func emptyInitramfs(root string) {
	entries, err := os.ReadDir("/")
	if err != nil {
		return
	}
	for _, e := range entries {
		if path := "/" + e.Name(); path != root {
			_ = os.RemoveAll(path)
		}
	}
}
