package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/agent/localapi"
	"ward/internal/trust/release"
	"ward/internal/trust/release/releasetest"
)

// releases writes a folder of releases and the trust anchors that they are
// verified with.
func releases(t *testing.T, dir string) error {
	manifest := func(version string, index uint64, change func(*release.Manifest)) []byte {
		m := releasetest.Manifest(version, index, releasetest.Values(7, 11, 12))
		if change != nil {
			change(&m)
		}
		return releasetest.Envelope(t, releasetest.Approved(t, m))
	}
	stranger, err := release.Sign(releasetest.Manifest("2.0", 4, releasetest.Values(7, 11, 12)), releasetest.Key(t, 9))
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{
		"trust/release/release.pem": releasetest.PEM(t, releasetest.Key(t, releasetest.Release)),
		"running.dsse":              manifest("1.0", 3, nil),
		"older.dsse":                manifest("0.9", 2, nil),
		"monitor.dsse":              manifest("2.0", 4, func(m *release.Manifest) { m.Product = "monitor" }),
		"next.dsse": manifest("2.0", 4, func(m *release.Manifest) {
			m.Update = &release.Update{From: []release.From{{Version: "0.9"}, {AtLeast: 3}}}
		}),
		"far.dsse":      manifest("9.0", 9, func(m *release.Manifest) { m.Update = &release.Update{From: []release.From{{AtLeast: 8}}} }),
		"unbound.dsse":  releasetest.Envelope(t, releasetest.Manifest("2.0", 4, releasetest.Values(7, 11, 12))),
		"stranger.dsse": stranger,
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// confirmAnswers is the action of confirming as a script wants it answered: each
// request gets the next line of a file, {"update":…} or {"status":…,"reason":…}.
func confirmAnswers(ts *testscript.TestScript, file string) []localapi.Action {
	type line struct {
		Update   localapi.Update
		Identity localapi.Identity
		Status   int
		Reason   string
	}
	var lines []line
	for text := range strings.Lines(ts.ReadFile(file)) {
		var l line
		ts.Check(json.Unmarshal([]byte(text), &l))
		lines = append(lines, l)
	}
	var mu sync.Mutex
	next := func() (line, error) {
		mu.Lock()
		defer mu.Unlock()
		l := lines[0]
		lines = lines[1:]
		if l.Status != 0 {
			return l, localapi.Refuse(l.Status, "%s", l.Reason)
		}
		return l, nil
	}
	issue := func(context.Context) (localapi.Identity, error) { l, err := next(); return l.Identity, err }
	all := []localapi.Action{
		localapi.ConfirmUpdate(func(context.Context, string) (localapi.Update, error) { l, err := next(); return l.Update, err }),
		localapi.RenewIdentity(issue), localapi.EnrollIdentity(issue),
	}
	for i := range all {
		if os.Getuid() != 0 {
			all[i].Who = localapi.Readers // who tests is not root
		}
	}
	return all
}
