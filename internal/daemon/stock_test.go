package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ward/internal/agent/attester"
	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/daemon/early"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/baseline"
	"ward/internal/trust/event"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/inventory"
	"ward/internal/trust/release"
)

// A device whose release has an SBOM tells at the local socket and in its evidence
// which components ran: before the daemon and since, as the kernel's list says. A
// released program in no SBOM is told.
//
// Verifies: SR-079 SR-080
func TestComponentsThatRanAreTold(t *testing.T) {
	dir := short(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	d := appraisaltest.Booted(t, appraisaltest.Log(appraisaltest.Events()...), appraisaltest.Program("/bin/busybox"), appraisaltest.Program("/usr/bin/stray"))
	var files bytes.Buffer
	out, err := baseline.NewWriter(&files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range [][2]string{{"/bin/busybox", "busybox@1.37.0"}, {"/usr/bin/openssl", "openssl@3.5.0"}, {"/usr/bin/pump", "pump@4.2.0"}, {"/usr/bin/stray", ""}} {
		p := appraisaltest.Program(f[0])
		if err := out.Write(baseline.Entry{Path: p.Path, Type: baseline.File, Mode: 0o755, Size: 1, SHA256: p.Digest, Flags: baseline.Exec, Component: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.Close(); err != nil {
		t.Fatal(err)
	}
	d.Release(t, files.Bytes())
	d.Manifest.SBOM = &release.SBOM{Digest: release.Digest{1}, MediaType: "application/spdx+json", Path: "/usr/lib/ward/sbom.json"}
	for name, b := range map[string][]byte{"release.dsse": d.Envelope(t), "baseline": d.Baseline, "trust/release/lab.pem": appraisaltest.KeyPEM(t, d.Key)} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(at(name)), 0o755), os.WriteFile(at(name), b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	kernel := securityfstest.Boot(t, d)
	if err := os.CopyFS(at("sys/kernel/security"), kernel.SecurityFS()); err != nil {
		t.Fatal(err)
	}
	settings := config.Default()
	settings.Paths = config.Paths{State: at("state"), Socket: at("s"), Release: at("release.dsse"), Baseline: at("baseline"), Trust: at("trust"), SysFS: at("sys")}
	settings.TPM.Device = at("none")
	w := &daemon{early: new(early.Opened), config: settings, log: slog.New(slog.DiscardHandler), started: time.Now()}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.health = health.New(w.journal, nil, w.log)
	ctx, cancel := context.WithCancel(t.Context())
	w.begin(ctx, nil, "")
	boot := w.assembleBoot(w.tpm())
	api := localapi.New(localapi.Config{
		Socket: settings.Paths.Socket, Journal: w.journal, Status: func() localapi.Status { return localapi.Status{} },
		Actions: []localapi.Action{localapi.TellInventory(boot.software)},
	})
	w.add("localapi", fastBound, api.Run)
	ended := make(chan struct{})
	go func() { w.run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()

	client := localapi.NewClient(settings.Paths.Socket)
	await := func(what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !reached(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not told", what)
			}
		}
	}
	var told localapi.Inventory
	ran := func(want ...string) func() bool {
		return func() bool {
			var err error
			told, err = client.Inventory(ctx)
			return err == nil && told.Known && slices.Equal(told.Running, want)
		}
	}
	await("what ran before", ran("busybox@1.37.0"))
	if told.Components != 3 || told.Kernel == "" || told.Ward == "" || told.Release.Version != "1.0.0" || told.SBOM == nil || told.SBOM.Path != "/usr/lib/ward/sbom.json" {
		t.Errorf("%+v", told)
	}

	// The kernel's files are copies: what runs now is added to the copy.
	list, err := os.OpenFile(at("sys/kernel/security/ima/binary_runtime_measurements"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if _, err := list.Write(appraisaltest.List(appraisaltest.Program("/usr/bin/pump"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("sys/kernel/security/ima/runtime_measurements_count"), []byte("4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	await("what ran since", ran("busybox@1.37.0", "pump@4.2.0"))
	await("the program in no SBOM", func() bool {
		events, err := client.Events(ctx, 0, 100, 0)
		return err == nil && slices.ContainsFunc(events.Events, func(b json.RawMessage) bool {
			e, err := event.Parse(b)
			return err == nil && e.Type == event.FindingIncident && e.Finding.Code == finding.InventoryNoComponent && e.Finding.Path == "/usr/bin/stray"
		})
	})

	document, err := boot.attester.Evidence(ctx, attester.Question{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	names, err := inventory.Decode(e.Running, d.Index(t).Components())
	if err != nil || !slices.Equal(names, []string{"busybox@1.37.0", "pump@4.2.0"}) {
		t.Errorf("the evidence tells %q, %v", names, err)
	}
}
