//go:build device

package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/contracttest"
	"ward/internal/fleet/ingest"
	"ward/internal/format/pcr"
	"ward/internal/lab/archive"
	"ward/internal/lab/disk"
	"ward/internal/lab/golden"
	"ward/internal/lab/image"
	"ward/internal/lab/stage"
	"ward/internal/lab/timeline"
	"ward/internal/lab/works"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
)

// timelineOf sends the lab's lines to the test's log.
type timelineOf struct{ t *testing.T }

func (w timelineOf) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// TestDevice boots the virtual device and follows the whole path: Secure Boot,
// measured boot, verdict, TPM identity, broker, receipt, local diagnostics, a
// strange program, the daemon's death and the clean end; then the two other
// attacks and an update, each a boot of its own.
//
// Verifies: SR-001 SR-002 SR-005 SR-010 SR-011 SR-012 SR-014 SR-016 SR-018 SR-022 SR-025 SR-028 SR-029 SR-030 SR-031 SR-040 SR-041 SR-042 SR-052 SR-055
func TestDevice(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	root, err := works.ModuleRoot(".")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(root, timeline.New(timelineOf{t}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := stage.Set(ctx, l.Works)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reader := subscribe(t, s)
	if err := s.GoodBoot(ctx); err != nil {
		t.Fatal(err)
	}

	t.Run("the event log replays to the TPM's registers, in our reader and in tpm2-tools'", func(t *testing.T) { eventLogAgrees(ctx, t, s) })
	t.Run("the daemon holds no privilege and listens on no network socket", func(t *testing.T) { unprivileged(ctx, t, s) })
	t.Run("both volumes are open, with what manufacture wrote", func(t *testing.T) { volumesOpen(ctx, t, s) })
	t.Run("wardctl status tells it at the bedside", func(t *testing.T) { bedside(ctx, t, s) })
	t.Run("evidence of the device convinces wardctl and tpm2_checkquote", func(t *testing.T) { attested(ctx, t, s) })
	t.Run("the fleet asks again, and judges itself", func(t *testing.T) { asked(ctx, t, s) })
	t.Run("a strange program is seen by an independent reader", func(t *testing.T) {
		if _, err := unknownProgram(ctx, s); err != nil {
			t.Fatal(err)
		}
		reader.await(t, `.unknown-file"`)
	})
	t.Run("the fleet's receipts free the records", func(t *testing.T) { receipts(ctx, t, s) })
	t.Run("the resident memory after a minute", func(t *testing.T) { memory(ctx, t, s) })
	t.Run("a killed daemon is seen and comes back", func(t *testing.T) { killed(ctx, t, s) })
	var service *x509.Certificate
	t.Run("the device has enrolled over EST, and its service key signs", func(t *testing.T) { service = enrolled(ctx, t, s) })
	t.Run("wardctl shows the identity, tries it at the broker, and keeps a secret with it", func(t *testing.T) { bedsideIdentity(ctx, t, s) })
	t.Run("certificates are renewed with new keys", func(t *testing.T) { service = renewed(ctx, t, s, service) })
	t.Run("a copy of the record fits what the TPM has certified", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := archive.Pull(ctx, s.VM, dir); err != nil {
			t.Fatal(err)
		}
		if codes, err := verdictOnCopy(ctx, s, dir); err != nil || len(codes) > 0 {
			t.Errorf("wardctl journal verify --ak: %v, %v", codes, err)
		}
	})
	t.Run("a clean stop takes leave", func(t *testing.T) {
		mark := s.Fleet.Mark()
		if err := s.PowerOff(ctx); err != nil {
			t.Fatal(err)
		}
		s.VM = nil
		if _, err := s.Await(ctx, mark, "the farewell", func(r ingest.Received) bool {
			return r.Kind == ingest.KindStatus && r.Status.State == presence.Offline
		}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the next release boots as predicted from the golden boot", func(t *testing.T) { nextRelease(ctx, t, s, service) })
	t.Run("a signed image with another command line is contraindicated", func(t *testing.T) {
		if _, err := alteredCommandLine(ctx, s); err != nil {
			t.Fatal(err)
		}
		reader.await(t, `"verdict":"contraindicated"`)
		predicted(ctx, t, s)
	})
	t.Run("with an altered boot the data volume stays shut and the pump runs", func(t *testing.T) { dataShut(ctx, t, s) })
	t.Run("with an altered boot the service key is refused and the reporting key works", func(t *testing.T) { serviceRefused(ctx, t, s) })
	t.Run("an unsigned image is refused and the silence is reported", func(t *testing.T) {
		if _, err := unsignedKernel(ctx, s); err != nil {
			t.Fatal(err)
		}
		reader.await(t, `"state":"lost"`)
	})
	t.Run("the disk in a machine with another TPM tells nothing", func(t *testing.T) {
		o, err := stolenDisk(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(o.Seen)
	})
	t.Run("everything that the fleet received keeps the contract", func(t *testing.T) { keepsContract(t, s.Fleet.Received(0)) })
}

// keepsContract checks events as they were sent, and statuses as they were read.
func keepsContract(t *testing.T, all []ingest.Received) {
	kinds := make(map[ingest.Kind]int)
	for _, r := range all {
		var err error
		switch r.Kind {
		case ingest.KindEvent:
			err = contracttest.Check(r.Topic, r.Raw)
		case ingest.KindStatus:
			var b []byte
			if b, err = presence.Encode(r.Status); err == nil {
				err = contracttest.Check(r.Topic, b)
			}
		}
		if err != nil {
			t.Error(err)
		}
		kinds[r.Kind]++
	}
	if kinds[ingest.KindEvent] == 0 || kinds[ingest.KindStatus] == 0 {
		t.Errorf("the fleet received %v", kinds)
	}
}

// independent is mosquitto_sub, which knows nothing of Ward.
type independent struct{ lines chan string }

func subscribe(t *testing.T, s *stage.Stage) *independent {
	t.Helper()
	p := s.PKI
	cmd := exec.Command("mosquitto_sub", "-h", "127.0.0.1", "-p", fmt.Sprint(s.Broker.Port), "--insecure", "--tls-version", "tlsv1.3",
		"--cafile", p.File("fleet-ca.crt"), "--cert", p.File("reader.crt"), "--key", p.File("reader.key"), "-q", "1", "-t", "ward/v1/+/+/up/#", "-v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r := &independent{lines: make(chan string, 10000)}
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			r.lines <- lines.Text()
		}
	}()
	return r
}

func (r *independent) await(t *testing.T, text string) {
	t.Helper()
	end := time.After(stage.AlertTime)
	for {
		select {
		case line := <-r.lines:
			if strings.Contains(line, text) {
				t.Logf("mosquitto_sub: %s", line)
				return
			}
		case <-end:
			t.Fatalf("mosquitto_sub did not see %s", text)
		}
	}
}

func eventLogAgrees(ctx context.Context, t *testing.T, s *stage.Stage) {
	log, measured, err := works.BootRecord(ctx, s.VM)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "eventlog")
	if err := os.WriteFile(file, log, 0o600); err != nil {
		t.Fatal(err)
	}
	wardctl, err := s.Program(ctx, "wardctl")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, wardctl, "eventlog", "replay", "--json", file).Output()
	if err != nil {
		t.Fatalf("wardctl eventlog replay: %v: %s", err, out)
	}
	var ours struct {
		Events int                   `json:"events"`
		Banks  map[string]pcr.Values `json:"banks"`
	}
	if err := json.Unmarshal(out, &ours); err != nil {
		t.Fatal(err)
	}
	theirs, err := exec.CommandContext(ctx, "tpm2_eventlog", file).Output()
	if err != nil {
		t.Fatalf("tpm2_eventlog: %v", err)
	}
	_, table, ok := bytes.Cut(theirs, []byte("\npcrs:\n"))
	if !ok {
		t.Fatalf("tpm2_eventlog gives no registers: %.300s", theirs)
	}
	if len(ours.Banks["sha256"]) < 8 {
		t.Fatalf("only %d registers were extended", len(ours.Banks["sha256"]))
	}
	for i, v := range ours.Banks["sha256"] {
		if !bytes.Equal(v, measured[i]) {
			t.Errorf("PCR %d: replayed %s, the TPM has %s", i, v, measured[i])
		}
		if want := fmt.Sprintf("%-3d: 0x%s", i, v); !bytes.Contains(table, []byte(want)) {
			t.Errorf("PCR %d: tpm2_eventlog does not give %s:\n%s", i, v, table)
		}
	}
	t.Logf("%d events, %d registers: wardctl, tpm2_eventlog and the TPM agree", ours.Events, len(ours.Banks["sha256"]))
}

// guest runs a program in the device and returns what it printed.
func guest(ctx context.Context, t *testing.T, s *stage.Stage, status int, argv ...string) string {
	t.Helper()
	r, err := s.VM.Run(ctx, argv...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Exit != status {
		t.Fatalf("%s: exit status %d, want %d: %s%s", strings.Join(argv, " "), r.Exit, status, r.Stdout, r.Stderr)
	}
	return string(r.Stdout)
}

func daemonPID(ctx context.Context, t *testing.T, s *stage.Stage) string {
	t.Helper()
	for line := range strings.Lines(guest(ctx, t, s, 0, "/usr/bin/ps", "-A")) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[len(f)-1], "wardd") {
			return f[0]
		}
	}
	t.Fatal("wardd does not run")
	return ""
}

func unprivileged(ctx context.Context, t *testing.T, s *stage.Stage) {
	b, err := s.VM.Pull(ctx, "/proc/"+daemonPID(ctx, t, s)+"/status")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	for name, want := range map[string]string{
		"Uid": "900 900 900 900", "Gid": "900 900 900 900", "NoNewPrivs": "1",
		// To read any file and to see what others execute and have open (SR-105).
		"CapEff": "0000000000080004", "CapPrm": "0000000000080004", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "Seccomp": "2",
	} {
		if fields[name] != want {
			t.Errorf("%s is %s, want %s", name, fields[name], want)
		}
	}
	const listening = "0A" // TCP_LISTEN
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"} {
		b, err := s.VM.Pull(ctx, file)
		if err != nil {
			continue // a kernel without IPv6
		}
		for n, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			f := strings.Fields(line)
			if n > 0 && len(f) > 7 && f[7] == "900" && (f[3] == listening || strings.Contains(file, "udp")) {
				t.Errorf("wardd has an open socket in %s: %s", file, line)
			}
		}
	}
}

func bedside(ctx context.Context, t *testing.T, s *stage.Stage) {
	st := status(ctx, t, s)
	if st.Verdict.Tier != "affirming" || !st.Release.Verified || st.Release.Version != works.Version || st.Link.State != "connected" || st.Device != stage.DeviceID || st.Tenant != works.Tenant {
		t.Errorf("status says %+v", st)
	}
	if r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "status"); err == nil {
		t.Logf("wardctl status:\n%s", r.Stdout)
	}
	events := guest(ctx, t, s, 0, "/usr/bin/wardctl", "events", "--json")
	for line := range strings.Lines(events) {
		if _, err := event.Parse([]byte(strings.TrimSpace(line))); err != nil {
			t.Errorf("wardctl events: %v", err)
		}
	}
	if r, err := s.VM.RunAs(ctx, 901, "/usr/bin/wardctl", "status"); err != nil || r.Exit != 3 {
		t.Errorf("the medical application's user is answered: exit %d, error %v", r.Exit, err)
	}
	out := guest(ctx, t, s, 0, "/usr/bin/wardctl", "journal", "verify", "/var/lib/ward/journal")
	t.Logf("wardctl journal verify: %s", out)
}

func status(ctx context.Context, t *testing.T, s *stage.Stage) localapi.Status {
	t.Helper()
	r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "status", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var st localapi.Status
	if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
		t.Fatalf("wardctl status --json: %v: %s%s", err, r.Stdout, r.Stderr)
	}
	return st
}

func receipts(ctx context.Context, t *testing.T, s *stage.Stage) {
	for end := time.Now().Add(stage.AlertTime); ; time.Sleep(time.Second) {
		st := status(ctx, t, s)
		if st.Journal.Sequence > 0 && st.Journal.Acknowledged == st.Journal.Sequence {
			t.Logf("%d events, all confirmed by signed receipts", st.Journal.Sequence)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d events are confirmed", st.Journal.Acknowledged, st.Journal.Sequence)
		}
	}
}

func killed(ctx context.Context, t *testing.T, s *stage.Stage) {
	before := status(ctx, t, s)
	mark := s.Fleet.Mark()
	guest(ctx, t, s, 0, "/usr/bin/kill", "-9", daemonPID(ctx, t, s))
	if _, err := s.AwaitFinding(ctx, mark, "link.silence", ""); err != nil {
		t.Fatal(err)
	}
	birth, err := s.AwaitBirth(ctx, mark)
	if err != nil {
		t.Fatal(err)
	}
	if birth.Status.Session != before.Link.Session+1 || birth.Status.Boot != before.Boot || birth.Status.Epoch != before.Journal.Epoch {
		t.Errorf("after the kill: session %d, boot %s, epoch %d; before: %d, %s, %d",
			birth.Status.Session, birth.Status.Boot, birth.Status.Epoch, before.Link.Session, before.Boot, before.Journal.Epoch)
	}
	for _, r := range s.Fleet.Received(0) {
		if r.Kind == ingest.KindFinding && r.Finding != nil && r.Finding.Code == "link.sequence-gap" {
			t.Errorf("the chain broke: %s", r.Finding.Detail)
		}
	}
	guest(ctx, t, s, 0, "/usr/bin/wardctl", "journal", "verify", "/var/lib/ward/journal")
	if out, err := s.VM.Pull(ctx, "/run/pump/status.json"); err == nil {
		t.Logf("pump: %s", bytes.TrimSpace(out))
	}
}

// memory reports the resident memory after a minute. The budget of 20 MiB is
// held against the value that the kernel gives.
func memory(ctx context.Context, t *testing.T, s *stage.Stage) {
	st := status(ctx, t, s)
	for st.UptimeMS < 60_000 {
		time.Sleep(time.Duration(60_000-st.UptimeMS) * time.Millisecond)
		st = status(ctx, t, s)
	}
	t.Logf("resident %d KiB after %d s; verdict %.0f ms after the start, TPM time %.0f ms", st.Memory.ResidentKiB, st.UptimeMS/1000, st.Verdict.TookMS, st.Verdict.TPMMS)
	const budget = 20 << 10
	if st.Memory.ResidentKiB == 0 || st.Memory.ResidentKiB > budget {
		t.Errorf("%d KiB resident, the budget is %d", st.Memory.ResidentKiB, budget)
	}
}

// nextRelease installs and boots a release that no device has booted before.
func nextRelease(ctx context.Context, t *testing.T, s *stage.Stage, service *x509.Certificate) {
	next, err := s.NextImage(ctx, stage.NextText)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := installNext(ctx, s, next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bootNext(ctx, s, next, boot); err != nil {
		t.Fatal(err)
	}
	volumesKept(ctx, t, s)
	sameServiceKey(ctx, t, s, service)
	unsealed(ctx, t, s)
	if err := s.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	s.VM = nil
	// The attacks that follow are held against the first release again.
	err = s.Image.PutESP(ctx, s.Device.Disk(), map[string]disk.File{works.ReleaseFile: {Data: s.Manifest, Mode: 0o644}})
	if err != nil {
		t.Fatal(err)
	}
}

// predicted holds the registers of the running device, which was booted from
// the debug image, against those computed from the image alone.
func predicted(ctx context.Context, t *testing.T, s *stage.Stage) {
	_, measured, err := works.BootRecord(ctx, s.VM)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Profile(ctx, s.Image)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := golden.Predict(p, s.Image.UKIs[image.Debug])
	if err != nil {
		t.Fatal(err)
	}
	for n, r := range boot.PCRs {
		if !bytes.Equal(r.Value, measured[n]) {
			t.Errorf("PCR %d: predicted %s, the TPM has %s", n, r.Value, measured[n])
		}
	}
	t.Log("the registers of the altered image are those that were predicted from its bytes")
}
