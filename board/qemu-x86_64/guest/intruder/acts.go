package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ward/board/qemu-x86_64/guest/init/verity"
)

// listen opens a TCP port on every address.
func listen(port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	defer l.Close()
	wait()
	return nil
}

// violate maps a file for execution while it is open for writing: the kernel's
// measurement cannot vouch for what runs, Documentation/ABI/testing/ima_policy
// (MMAP_CHECK) and ima_rdwr_violation_check.
func violate(file string) error {
	w, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := unix.Mmap(int(r.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("map %s: %w", file, err)
	}
	return unix.Munmap(b)
}

// flood makes and removes files, one after the other.
func flood(dir, count string) error {
	n, err := number(count)
	if err != nil {
		return err
	}
	begun := time.Now()
	for i := range n {
		name := filepath.Join(dir, "flood-"+strconv.Itoa(i))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	fmt.Printf("%d files made and removed in %d ms\n", n, time.Since(begun).Milliseconds())
	return nil
}

// block is dm-verity's block size on the device.
const block = 4096

// corrupt overwrites the last data block of a partition that dm-verity covers,
// reads it through device-mapper, and puts the old content back. It must be a block
// that nothing else reads: the end of a squashfs is its padding.
func corrupt(label, mapped string) error {
	p, err := verity.WaitPartition(label, time.Second)
	if err != nil {
		return err
	}
	raw, err := unix.Open(p.Node, unix.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", p.Node, err)
	}
	defer unix.Close(raw)
	through, err := unix.Open(mapped, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", mapped, err)
	}
	defer unix.Close(through)
	end, err := unix.Seek(through, 0, unix.SEEK_END)
	if err != nil {
		return err
	}
	at := end - block
	// O_DIRECT wants aligned memory, open(2).
	page, err := unix.Mmap(-1, 0, 3*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	old, bad, seen := page[:block], page[block:2*block], page[2*block:]
	if n, err := unix.Pread(raw, old, at); err != nil || n != block {
		return fmt.Errorf("read block %d: %d bytes, %w", at/block, n, err)
	}
	for i := range bad {
		bad[i] = old[i] ^ 0xff
	}
	if _, err := unix.Pwrite(raw, bad, at); err != nil {
		return fmt.Errorf("write block %d: %w", at/block, err)
	}
	_, readErr := unix.Pread(through, seen, at)
	if _, err := unix.Pwrite(raw, old, at); err != nil {
		return fmt.Errorf("put block %d back: %w", at/block, err)
	}
	fmt.Printf("block %d: %v\n", at/block, readErr)
	return nil
}

// trace attaches to a process as a debugger does, ptrace(2).
func trace(pid string) error {
	n, err := number(pid)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the tracer is a thread
	if err := unix.PtraceSeize(n); err != nil {
		return fmt.Errorf("attach to %d: %w", n, err)
	}
	wait()
	return nil
}

// load asks the kernel to load a module from a file, which it measures by name.
func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// remount gives a mounted file system other flags.
func remount(target string, flags uintptr) error {
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("mount %s anew: %w", target, err)
	}
	return nil
}

// signal sends a signal to a process.
func signal(pid, number string) error {
	p, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	return unix.Kill(p, unix.Signal(n))
}
