package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/lab"
	"ward/internal/lab/control"
	"ward/internal/lab/disk"
	"ward/internal/lab/image"
	"ward/internal/lab/vm"
)

// bootOptions are the flags of boot.
type bootOptions struct {
	variant string
	device  string
	console bool
	keep    bool
	limit   time.Duration
	broker  int
}

func newBoot() *cobra.Command {
	var o bootOptions
	cmd := &cobra.Command{
		Use:   "boot",
		Short: "Boot a virtual device and print its console until it switches off",
		Long: `boot manufactures a device with a TPM of its own, boots it under Secure Boot
and prints its serial console. It ends when the device switches off, at an interrupt, or when
the time is over. The unsigned variant must be refused by the firmware, which
then waits for ever: give it a short --limit.

Status 0: the device came up and switched off; 1: the firmware or the device
refused to start.`,
		Example: "  wardlab boot --limit 2m\n  wardlab boot --variant unsigned --limit 30s\n  echo 'wardctl status' | wardlab boot --console",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return boot(cmd.Context(), cmd.OutOrStdout(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.variant, "variant", image.Release, "kernel image: release, debug or unsigned")
	f.StringVar(&o.device, "device", "", "boot the device in this `folder`, kept by an earlier --keep, as it is")
	f.BoolVar(&o.console, "console", false, "run each line of standard input in the device's shell; switch it off at the end")
	f.BoolVar(&o.keep, "keep", false, "keep the device's folder afterwards")
	f.DurationVar(&o.limit, "limit", 0, "switch the device off in order after this time; 0 waits for ever")
	f.IntVar(&o.broker, "broker-port", 0, "port of 127.0.0.1 that the device reaches as its broker; 0 for none")
	return cmd
}

func boot(ctx context.Context, out io.Writer, o bootOptions) error {
	switch o.variant {
	case image.Release, image.Debug, image.Unsigned:
	default:
		return cli.Fail(cli.Usage, "unknown variant %q: want release, debug or unsigned", o.variant)
	}
	l, err := openLab(os.Stderr)
	if err != nil {
		return err
	}
	img, err := l.Build(ctx)
	if err != nil {
		return err
	}
	var d *vm.Device
	if o.device != "" {
		d, err = vm.OpenDevice(o.device)
	} else {
		d, err = makeDevice(ctx, l, img, o.variant)
	}
	if err != nil {
		return err
	}
	switch {
	case o.keep:
		fmt.Fprintln(os.Stderr, "the device stays in", d.Dir)
	case o.device == "":
		defer os.RemoveAll(d.Dir)
	}
	config := vm.Config{Device: d, Firmware: img.Firmware, BrokerPort: o.broker, Console: out}
	v, err := vm.Start(ctx, config)
	if err != nil {
		return err
	}
	defer v.Kill()
	if o.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.limit)
		defer cancel()
	}
	if err := v.WaitReady(ctx); err != nil {
		return cli.Fail(cli.Findings, "%w", err)
	}
	announce(v)
	if o.console {
		go commands(ctx, v, os.Stdin, out)
	}
	return watch(ctx, v)
}

// makeDevice manufactures a device in a new folder and puts the variant's
// kernel image on it.
func makeDevice(ctx context.Context, l *lab.Lab, img *image.Image, variant string) (*vm.Device, error) {
	manifest, err := l.Release(ctx, img)
	if err != nil {
		return nil, err
	}
	run := filepath.Join(l.Dir, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for the device: %w", err)
	}
	dir, err := os.MkdirTemp(run, "boot-")
	if err != nil {
		return nil, fmt.Errorf("make folder for the device: %w", err)
	}
	d, err := l.Manufacture(ctx, img, manifest, dir, "console-device")
	if err == nil && variant != image.Release {
		err = img.PutESP(ctx, d.Disk(), map[string]disk.File{image.BootFile: {Host: img.UKIs[variant].Path}})
	}
	if err != nil {
		os.RemoveAll(dir)
	}
	return d, err
}

// announce says how the start went.
func announce(v *vm.VM) {
	ready, after := v.Ready()
	fmt.Fprintf(os.Stderr, "device is up %.1f s after power-on, kernel %.1f s\n", after.Seconds(), float64(ready.UptimeMS)/1000)
	for _, c := range ready.Complaints {
		fmt.Fprintln(os.Stderr, "  complaint:", c)
	}
}

// watch waits until the device switches off, and switches it off itself when
// the time is over or the caller was interrupted.
func watch(ctx context.Context, v *vm.VM) error {
	select {
	case <-v.Exited():
		return v.Wait(context.Background())
	case <-ctx.Done():
	}
	down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return v.Shutdown(down)
}

// commands runs each line of in by the device's shell, and switches the device
// off at the end.
func commands(ctx context.Context, v *vm.VM, in io.Reader, out io.Writer) {
	lines := bufio.NewScanner(in)
	for lines.Scan() && ctx.Err() == nil {
		if lines.Text() == "" {
			continue
		}
		res, err := v.Run(ctx, "sh", "-c", lines.Text())
		out.Write(res.Stdout)
		os.Stderr.Write(res.Stderr)
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "wardlab:", err)
			return
		case res.Exit != 0:
			fmt.Fprintf(os.Stderr, "(status %d)\n", res.Exit)
		}
	}
	_, _ = v.Run(ctx, control.VerbPowerOff) // watch sees the end
}
