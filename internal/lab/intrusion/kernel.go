package intrusion

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"ward/internal/lab/control"
	"ward/internal/lab/stage"
	"ward/internal/trust/finding"
)

// module finds the file of a kernel module in the device's list.
func module(ctx context.Context, s *stage.Stage, name string) (string, error) {
	list, err := s.VM.Pull(ctx, "/etc/modules.system")
	if err != nil {
		return "", err
	}
	for path := range strings.Lines(string(list)) {
		path = strings.TrimSpace(path)
		if base, _, _ := strings.Cut(filepath.Base(path), "."); base == name {
			return path, nil
		}
	}
	return "", fmt.Errorf("module %s is not in the device's list", name)
}

// signature is what stands at the end of a signed module (kernel,
// include/linux/module_signature.h and MODULE_SIG_STRING).
const signature = "~Module signature appended~\n"

// unsignedModule takes the signature off a released module, changes nothing else,
// and asks the kernel to load it. The kernel refuses, and has measured it.
func unsignedModule(ctx context.Context, s *stage.Stage) error {
	path, err := module(ctx, s, "usb-storage")
	if err != nil {
		return err
	}
	b, err := s.VM.Pull(ctx, path)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(string(b), signature) {
		return fmt.Errorf("module %s is not signed", path)
	}
	b = append(b[:len(b)-len(signature)], fmt.Sprint(time.Now().UnixNano())...)
	if err := s.VM.Put(ctx, "/tmp/module.ko", 0o644, b); err != nil {
		return err
	}
	r, err := s.VM.Run(ctx, intruder, "load", "/tmp/module.ko")
	if err != nil {
		return err
	}
	if r.Exit == 0 {
		return fmt.Errorf("the kernel loaded an unsigned module")
	}
	s.Line.Say("device", "the kernel refuses it: %s", strings.TrimSpace(string(r.Stderr)))
	return nil
}

// value holds the detail of a finding to a word.
func naming(word string) func(finding.Finding) bool {
	return func(f finding.Finding) bool { return strings.Contains(f.Detail, word) }
}

// set writes a value of the kernel's, whose file takes no mode.
func set(path, value string) step {
	return func(ctx context.Context, s *stage.Stage) error {
		r, err := s.VM.Do(ctx, control.Request{Argv: []string{"tee", path}, Stdin: []byte(value)})
		if err == nil && r.Exit != 0 {
			err = fmt.Errorf("write %s: %s", path, r.Stderr)
		}
		return err
	}
}

// kernelActs are changes of the kernel, its settings, mounts and devices.
func kernelActs() []act {
	const sysctl = "/proc/sys/kernel/dmesg_restrict"
	return []act{
		{
			name: "unsigned-module", title: "a kernel module without a signature is loaded",
			attack: "unsigned module", before: ready, do: unsignedModule, after: run([]string{"rm", "/tmp/module.ko"}),
			code: finding.IMAUnknownFile,
		},
		{
			name: "module-unloaded", title: "a kernel module of the release is unloaded",
			attack: "module unloaded", do: run([]string{"rmmod", "usb_storage"}),
			after: func(ctx context.Context, s *stage.Stage) error {
				path, err := module(ctx, s, "usb-storage")
				if err != nil {
					return err
				}
				return command(ctx, s, "insmod", path)
			},
			code: finding.PostureModuleMissing, fits: naming("usb_storage"), clears: true,
		},
		{
			name: "sysctl", title: "a setting of the kernel is loosened",
			attack: "sysctl loosened", do: set(sysctl, "0\n"), after: set(sysctl, "1\n"),
			code: finding.PostureSysctl, fits: naming("dmesg_restrict"), clears: true,
		},
		{
			name: "listening-socket", title: "a program listens on the network",
			attack: "new listening socket", before: ready,
			do: func(ctx context.Context, s *stage.Stage) error {
				lasting(ctx, s, 30*time.Second, "listen", "4444")
				return nil
			},
			after: run([]string{"sleep", "0"}),
			code:  finding.PostureSocket, fits: naming("4444"), clears: true,
		},
		{
			name: "remount", title: "a file system is mounted anew without its protections",
			attack: "remount", before: ready, do: run([]string{intruder, "open", "/var/lib/ward"}),
			after: run([]string{intruder, "protect", "/var/lib/ward"}),
			code:  finding.PostureMount, fits: naming("/var/lib/ward"), clears: true,
		},
		{
			name: "verity-block", title: "a block of the root file system is overwritten beneath dm-verity",
			attack: "dm-verity block corrupted", before: ready,
			do: func(ctx context.Context, s *stage.Stage) error {
				said, err := intrude(ctx, s, "corrupt", "ward-root", "/dev/dm-0")
				if err == nil {
					s.Line.Say("device", "read through dm-verity: %s", said)
				}
				return err
			},
			code: finding.StorageVerityError,
		},
		{
			name: "usb-storage", title: "a memory stick is plugged in",
			attack: "USB storage", do: plug, after: unplug,
			code: finding.USBStorageInserted,
		},
	}
}
