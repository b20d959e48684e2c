package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/agent/localapi"
	"ward/internal/scripttest"
	"ward/internal/trust/posture"
	"ward/internal/trust/release"
	"ward/internal/trust/release/releasetest"
)

// Scripts about the posture of a device whose files lie in the folder root. The
// releases judged.dsse, lax.dsse (which expects nothing) and stranger.dsse (which
// nobody signed) lie in the folder releases with the anchors.
//
// Verifies: SR-018 SR-098
func TestPostureScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/posture",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			files, err := policies(t)
			if err != nil {
				return err
			}
			for name, b := range files {
				name = filepath.Join(env.WorkDir, "releases", name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(name, b, 0o644); err != nil {
					return err
				}
			}
			exe := filepath.Join(env.WorkDir, "root/proc/300/exe")
			if err := os.MkdirAll(filepath.Dir(exe), 0o755); err != nil {
				return err
			}
			return os.Symlink("/usr/bin/pump", exe)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"status": scripttest.Status, "daemon": tellsPosture},
	})
}

// tellsPosture starts a daemon that tells the posture of a JSON file on a socket.
func tellsPosture(ts *testscript.TestScript, _ bool, args []string) {
	var p localapi.Posture
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &p))
	ctx, cancel := context.WithCancel(context.Background())
	api := localapi.New(localapi.Config{Socket: ts.MkAbs(args[0]), Actions: []localapi.Action{localapi.TellPosture(func() localapi.Posture { return p })}})
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
	for range 2000 {
		if _, err := localapi.NewClient(ts.MkAbs(args[0])).Posture(ctx); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Fatalf("the daemon does not answer")
}

func policies(t *testing.T) (map[string][]byte, error) {
	m := releasetest.Manifest("1.0", 3, releasetest.Values(7, 11, 12))
	lax := releasetest.Envelope(t, releasetest.Approved(t, m))
	m.Posture = &posture.Policy{Rules: []posture.Rule{
		{Claim: posture.Lockdown, Mode: posture.Equal, Values: []string{"integrity"}},
		{Claim: posture.Mounts, Mode: posture.Within, Values: []string{"/ squashfs ro", "/tmp tmpfs nodev,noexec,nosuid"}},
		{Claim: posture.Logins, Mode: posture.Equal, Values: []string{"root 0 /bin/sh"}},
		{Claim: posture.Cron, Mode: posture.Equal, Optional: true},
		{Claim: posture.ClockSync, Mode: posture.Recorded},
	}}
	stranger, err := release.Sign(m, releasetest.Key(t, 9))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"trust/release/release.pem": releasetest.PEM(t, releasetest.Key(t, releasetest.Release)),
		"judged.dsse":               releasetest.Envelope(t, releasetest.Approved(t, m)),
		"lax.dsse":                  lax, "stranger.dsse": stranger,
	}, nil
}
