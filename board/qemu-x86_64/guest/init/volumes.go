package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ward/board/qemu-x86_64/guest/init/verity"
	"ward/internal/trust/volume"
)

// Places in the verified root file system and in /run.
const (
	unlocker         = "/usr/sbin/wardunlock"
	mapper           = "/usr/sbin/cryptsetup"
	volumeModuleList = "/etc/modules.volumes"
	releaseFile      = "/boot/ward/release.dsse"
	volumeReport     = reportFile("/run/ward/volumes")
	mapped           = "/dev/mapper/ward-"
)

// volumesTime bounds the opening of all volumes: the pump waits for it.
const volumesTime = 40 * time.Second

// volumes are the encrypted partitions, in the order of their opening. What has a
// release is bound to the boot state.
var volumes = []struct{ name, release string }{
	{volume.State, ""},
	{volume.Data, releaseFile},
}

// openVolumes opens the encrypted volumes, with the programs of the verified root
// file system and before its init is started. Nothing here is fatal: the report
// says what did not open and why, and the device works without it.
func openVolumes() {
	ctx, cancel := context.WithTimeout(context.Background(), volumesTime)
	defer cancel()
	run := mount{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=32m"}
	if err := errors.Join(run.do(), os.MkdirAll(filepath.Dir(string(volumeReport)), 0o755), loadModules(volumeModuleList), mountBoot()); err != nil {
		say("volumes: %v", err) // what follows says what is missing
	}
	for _, v := range volumes {
		begun := time.Now()
		if err := openVolume(ctx, v.name, v.release); err != nil {
			say("volume %s stays closed: %v", v.name, err)
			continue
		}
		say("volume %s is open, after %d ms", v.name, time.Since(begun).Milliseconds())
	}
}

// openVolume has the TPM open a volume's key and cryptsetup map it.
func openVolume(ctx context.Context, name, release string) error {
	partition, err := verity.WaitPartition("ward-"+name, time.Second)
	if err != nil {
		return volumeReport.closed(name, volume.Unknown, err)
	}
	args := []string{"key", "--device", partition.Node, "--name", name, "--report", string(volumeReport)}
	if release != "" {
		args = append(args, "--release", release)
	}
	key, err := runProgram(ctx, nil, unlocker, args...)
	if err != nil {
		if _, told := volumeReport.outcome(name); told {
			return err // it has reported its cause itself
		}
		return volumeReport.closed(name, volume.Failing, err)
	}
	defer clear(key)
	_, err = runProgram(ctx, key, mapper, "open", "--batch-mode", "--disable-locks", "--key-file=-", "--type", "luks2", partition.Node, filepath.Base(mapped)+name)
	if err != nil {
		return volumeReport.closed(name, volume.Mapping, err)
	}
	return nil
}

// runProgram runs a program and returns what it printed. A program that does not
// end with the time is left behind: it hangs in the kernel, and the boot goes on.
func runProgram(ctx context.Context, stdin []byte, path string, args ...string) ([]byte, error) {
	cmd := exec.Command(path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	// Without udev cryptsetup makes the device nodes itself.
	cmd.Env = append(append([]string{}, defaultEnv...), "DM_DISABLE_UDEV=1")
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("run %s: %w: %s", path, err, strings.TrimSpace(stderr.String()))
		}
		return stdout.Bytes(), nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("run %s: no end after %s", path, volumesTime)
	}
}

// reportFile is the report on the volumes, which wardd reads.
type reportFile string

// closed appends the cause to the report and returns the error.
func (r reportFile) closed(name string, cause volume.Cause, why error) error {
	f, err := os.OpenFile(string(r), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		_, err = f.Write(volume.Outcome{Name: name, Cause: cause, Detail: why.Error()}.Line())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		say("report on volume %s: %v", name, err)
	}
	return why
}

// outcome is what the report says of a volume.
func (r reportFile) outcome(name string) (volume.Outcome, bool) {
	text, err := os.ReadFile(string(r))
	if err != nil {
		return volume.Outcome{}, false
	}
	all, err := volume.ParseReport(text)
	if err != nil {
		return volume.Outcome{}, false
	}
	for _, o := range all {
		if o.Name == name {
			return o, true
		}
	}
	return volume.Outcome{}, false
}

// mountBoot mounts the EFI system partition, where the release manifest lies.
func mountBoot() error {
	return mountLabel("ward-esp", "/boot", "vfat", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "fmask=0133,dmask=0022")
}

// opened says whether a volume was opened at this start.
func (r reportFile) opened(name string) error {
	o, ok := r.outcome(name)
	switch {
	case !ok:
		return fmt.Errorf("volume %s was not opened", name)
	case !o.Opened:
		return fmt.Errorf("volume %s is closed: %s", name, o.Cause)
	}
	return nil
}

// mountVolume mounts a volume that was opened. A plain file system in its
// partition is never mounted: somebody would have put it there.
func mountVolume(name, target string, flags uintptr) error {
	if err := volumeReport.opened(name); err != nil {
		return err
	}
	if err := (mount{mapped + name, target, "ext4", flags, ""}).do(); err != nil {
		return volumeReport.closed(name, volume.Mapping, err)
	}
	return nil
}
