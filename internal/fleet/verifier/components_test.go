package verifier_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/fleet/verifier"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/inventory"
	"ward/internal/trust/presence"
)

// withComponents gives the release of a world a baseline that names components.
func withComponents(t *testing.T, w *world) {
	t.Helper()
	var b bytes.Buffer
	out, err := baseline.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range [][2]string{
		{"/usr/bin/openssl", "openssl@3.5.0"}, {"/usr/bin/pump", "pump@4.2.0"}, {"/usr/lib/libssl.so.3", "openssl@3.5.0"}, {"/usr/lib/libz.so.1", "zlib@1.3.1"}, {"/usr/sbin/wardd", "ward@1.0.0"},
	} {
		p := appraisaltest.Program(f[0])
		if err := out.Write(baseline.Entry{Path: p.Path, Type: baseline.File, Mode: 0o755, Size: 1, SHA256: p.Digest, Flags: baseline.Exec, Component: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.Close(); err != nil {
		t.Fatal(err)
	}
	w.d.Release(t, b.Bytes())
	digest := w.d.Verified(t).Digest()
	w.config.Releases = verifier.Releases{string(digest[:]): {Verified: w.d.Verified(t), Version: "1.0.0", Baseline: w.d.Index(t)}}
	w.crash()
}

// told is the set that a device tells, of these components of its release.
func told(t *testing.T, w *world, ran ...string) []byte {
	t.Helper()
	index := w.d.Index(t)
	components := index.Components()
	s, err := inventory.New(index.Digest(), len(components))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ran {
		i, ok := slices.BinarySearch(components, c)
		if !ok || !s.Add(i) {
			t.Fatalf("no component %s in %q", c, components)
		}
	}
	return s.Encode()
}

// holdings lists "device component state" for a name.
func (w *world) holdings(want string) []string {
	w.t.Helper()
	all, err := verifier.Holdings(w.config.StateFile, w.config.Releases, func(name, _ string) bool { return name == want })
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, h := range all {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", h.Device, h.Component, h.State, h.Reason)))
	}
	return out
}

// The verdict names the components that run, and the fleet tells for every device
// whether one runs there, is dormant, or is not known.
//
// Verifies: SR-080
func TestComponents(t *testing.T) {
	w := newWorld(t, nil)
	withComponents(t, w)
	w.heard(presence.Online, boot)
	got, v := w.take(w.evidence(w.asked(time.Second), func(e *evidence.Evidence) { e.Running = told(t, w, "pump@4.2.0", "ward@1.0.0") }))
	w.want(got, "affirming")
	if v.Components == nil || v.Components.Known != 4 || !slices.Equal(v.Components.Running, []string{"pump@4.2.0", "ward@1.0.0"}) {
		t.Fatalf("components %+v", v.Components)
	}
	w.heard(presence.Online, "boot-2") // another device is known, and has told nothing
	w.v.Heard(w.now, presence.Status{State: presence.Online, Tenant: tenant, Device: "paper-2", Boot: boot})
	w.restart()
	for component, want := range map[string]string{"openssl": "paper-1 openssl@3.5.0 dormant", "pump": "paper-1 pump@4.2.0 running", "curl": ""} {
		var known []string
		if want != "" {
			known = []string{want}
		}
		known = append(known, "paper-2  unknown no evidence has told which components ran")
		if got := w.holdings(component); !slices.Equal(got, known) {
			t.Errorf("%s: %q, want %q", component, got, known)
		}
	}

	// What it told stays until evidence that counts tells otherwise.
	w.heard(presence.Online, boot)
	e := w.evidence(w.asked(2*time.Hour), func(e *evidence.Evidence) { e.Running = told(t, w, "openssl@3.5.0") })
	e.Running = told(t, w) // behind the quote
	if got, v := w.take(e); v.Components != nil || !strings.Contains(got, "boot.quote-nonce") {
		t.Errorf("of evidence that was changed: %s, %+v", got, v.Components)
	}
	if got := w.holdings("pump")[0]; got != "paper-1 pump@4.2.0 running" {
		t.Errorf("kept %s", got)
	}
	w.heard(presence.Online, boot)
	_, _ = w.take(w.evidence(nil, func(e *evidence.Evidence) { e.Running = told(t, w, "openssl@3.5.0", "pump@4.2.0") }))
	w.restart()
	if got := w.holdings("openssl")[0]; got != "paper-1 openssl@3.5.0 running" {
		t.Errorf("then %s", got)
	}
	w.config.Releases = nil
	if got := w.holdings("openssl")[0]; !strings.HasPrefix(got, "paper-1  unknown the file baseline of its release") {
		t.Errorf("without the baseline: %s", got)
	}
}

// A set that is not of the release is a finding, names nothing, and takes nothing
// away.
//
// Verifies: SR-080
func TestForeignComponents(t *testing.T) {
	for name, set := range map[string]func(w *world) []byte{
		"no set":           func(*world) []byte { return []byte{7} },
		"another baseline": func(w *world) []byte { b := told(t, w); b[1] ^= 1; return b },
		"other components": func(w *world) []byte {
			s, err := inventory.New(w.d.Index(t).Digest(), 40)
			if err != nil {
				t.Fatal(err)
			}
			return s.Encode()
		},
	} {
		w := newWorld(t, nil)
		withComponents(t, w)
		_, v := w.take(w.evidence(nil, func(e *evidence.Evidence) { e.Running = told(t, w, "pump@4.2.0") }))
		if v.Components == nil {
			t.Fatal("the set of the release is not named")
		}
		got, v := w.take(w.evidence(nil, func(e *evidence.Evidence) { e.Running = set(w) }))
		if got != "affirming inventory.unreadable" || v.Components != nil {
			t.Errorf("%s: %s, %+v", name, got, v.Components)
		}
		w.restart()
		if got := w.holdings("pump"); !slices.Equal(got, []string{"paper-1 pump@4.2.0 running"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
