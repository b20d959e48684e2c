package intrusion

import (
	"context"
	"fmt"
	"time"

	"ward/internal/lab/stage"
	"ward/internal/lab/stranger"
	"ward/internal/trust/finding"
)

// What the image puts on the data volume, where it can be changed.
const (
	program  = "/data/app/rinse"
	settings = "/data/app/rinse.conf"
)

// step is a part of an act.
type step = func(ctx context.Context, s *stage.Stage) error

// put writes a file on the device.
func put(path string, mode uint32, content func() ([]byte, error)) step {
	return func(ctx context.Context, s *stage.Stage) error {
		b, err := content()
		if err != nil {
			return err
		}
		return s.VM.Put(ctx, path, fileMode(mode), b)
	}
}

func text(t string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(t), nil } }

// run runs commands of the device's user land as root.
func run(commands ...[]string) step {
	return func(ctx context.Context, s *stage.Stage) error {
		for _, argv := range commands {
			if err := command(ctx, s, argv...); err != nil {
				return err
			}
		}
		return nil
	}
}

// all does steps one after the other.
func all(steps ...step) step {
	return func(ctx context.Context, s *stage.Stage) error {
		for _, do := range steps {
			if err := do(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// keep remembers a file of the device and gives the step that puts it back.
func keep(path string, mode uint32) (save, back step) {
	var old []byte
	save = func(ctx context.Context, s *stage.Stage) (err error) {
		old, err = s.VM.Pull(ctx, path)
		return err
	}
	back = func(ctx context.Context, s *stage.Stage) error { return s.VM.Put(ctx, path, fileMode(mode), old) }
	return save, back
}

// about wants a finding on a path.
func about(path string) func(finding.Finding) bool {
	return func(f finding.Finding) bool { return f.Path == path }
}

// fileActs are changes of files and what runs.
func fileActs() []act {
	saveProgram, backProgram := keep(program, 0o755)
	saveSettings, backSettings := keep(settings, 0o644)
	fresh := fmt.Sprint(time.Now().UnixNano()) // the kernel measures the same content once
	return []act{
		{
			name: "changed-binary", title: "a released program on a writable file system gets other content",
			attack: "released program changed", before: saveProgram, do: put(program, 0o755, stranger.New), after: backProgram,
			code: finding.FileChanged, fits: about(program),
		},
		{
			name: "changed-configuration", title: "a released configuration file gets other content",
			attack: "configuration changed", before: saveSettings, do: put(settings, 0o644, text("volume_ml = 500\n")), after: backSettings,
			code: finding.FileConfigChanged, fits: about(settings),
		},
		{
			name: "new-setuid", title: "a file becomes set-uid root",
			attack: "new set-uid file",
			before: all(ready, put("/data/app/helper", 0o755, stranger.New)),
			do: func(ctx context.Context, s *stage.Stage) error {
				_, err := intrude(ctx, s, "setuid", "/data/app/helper")
				return err
			},
			after: run([]string{"rm", "/data/app/helper"}),
			code:  finding.FileNewSetuid,
		},
		{
			name: "program-from-tmpfs", title: "a program is put into memory and run from there",
			attack: "program run from tmpfs", before: put("/dev/shm/.x", 0o755, stranger.New),
			do:    run([]string{"/dev/shm/.x"}),
			after: run([]string{"rm", "/dev/shm/.x"}),
			code:  finding.IMAUnknownFile, or: finding.ExecUnknownFile,
		},
		{
			name: "script", title: "an interpreter of the release runs a script that is in no release",
			attack: "script run by an interpreter",
			before: put("/data/app/script", 0o755, text("#!/usr/bin/sh\necho "+fresh+"\n")),
			do:     run([]string{"/data/app/script"}),
			after:  run([]string{"rm", "/data/app/script"}),
			code:   finding.IMAUnknownFile, or: finding.ExecUnknownFile,
		},
		{
			name: "ima-violation", title: "a file runs while it is open for writing: the kernel cannot vouch for it",
			attack: "file written while it runs",
			before: all(ready, put("/data/app/torn", 0o755, func() ([]byte, error) { return append(make([]byte, 4096), fresh...), nil })),
			do: func(ctx context.Context, s *stage.Stage) error {
				_, err := intrude(ctx, s, "violate", "/data/app/torn")
				return err
			},
			after: run([]string{"rm", "/data/app/torn"}),
			code:  finding.IMAViolation,
		},
	}
}
