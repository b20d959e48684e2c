package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/contracttest"
	"ward/internal/daemon/early"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/device/tpm"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
	"ward/internal/trust/presence"
	"ward/internal/trust/release"
	"ward/internal/trust/release/releasetest"
)

// softwareTPM runs a software TPM and returns its socket.
func softwareTPM(t *testing.T) string {
	t.Helper()
	dir := short(t)
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "startup-clear,not-need-init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 250 {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return socket
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("swtpm does not listen")
	return ""
}

// measure extends the TPM's registers as firmware and kernel did on a device on
// paper.
func measure(t *testing.T, socket string, events []appraisaltest.Event, list []byte) {
	t.Helper()
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	extend := func(register int, digest []byte) {
		t.Helper()
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}},
		}.Execute(conn)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range events {
		digest := e.Digest
		if digest == nil {
			digest = pcr.SHA256.Sum(e.Data)
		}
		extend(e.PCR, digest)
	}
	d, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		extend(e.PCR, pcr.SHA256.Sum(e.Data))
	}
}

// The daemon on a device whose registers, logs and release fit: the verdict is
// affirming, root confirms the release through the local socket, and the TPM's
// counter moves to it.
//
// Verifies: SR-038
func TestConfirmedThroughTheLocalSocket(t *testing.T) {
	dir := short(t)
	socket := softwareTPM(t)
	events := appraisaltest.Events()[1:] // a start at locality 0, as software TPMs do
	d := appraisaltest.Booted(t, appraisaltest.Log(events...), appraisaltest.Program("/usr/sbin/wardd"))
	measure(t, socket, events, d.List)
	kernel := securityfstest.Boot(t, d)

	chip, err := tpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer chip.Close()
	key := releasetest.PolicyKey(t)
	if _, err := chip.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := chip.DefineRollback(t.Context(), key, releasetest.Base); err != nil {
		t.Fatal(err)
	}
	if d.Manifest, err = d.Manifest.Approve(release.Approval{Base: releasetest.Base, PCRs: []int{7, 11}}, releasetest.Key(t, releasetest.Policy)); err != nil {
		t.Fatal(err)
	}

	settings := config.Default()
	at := func(name string) string { return filepath.Join(dir, name) }
	settings.Paths = config.Paths{
		State: at("state"), Socket: at("s"), Release: at("release.dsse"), Baseline: at("baseline"), Trust: at("trust"),
		SysFS: at("sys"),
	}
	settings.TPM.Device = socket
	for name, b := range map[string][]byte{
		"release.dsse": d.Envelope(t), "baseline": d.Baseline, "trust/release/lab.pem": appraisaltest.KeyPEM(t, d.Key),
		"trust/policy/policy.pem": releasetest.PEM(t, releasetest.Key(t, releasetest.Policy)),
	} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.CopyFS(at("sys"), kernel.SysFS()), os.CopyFS(at("sys/kernel/security"), kernel.SecurityFS())); err != nil {
		t.Fatal(err)
	}
	w := &daemon{early: new(early.Opened), config: settings, log: slog.New(slog.DiscardHandler), started: time.Now()}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.health = health.New(w.journal, nil, w.log)
	ctx, cancel := context.WithCancel(t.Context())
	w.begin(ctx, nil, "")
	w.assemble()
	ended := make(chan struct{})
	go func() { w.run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()

	client := localapi.NewClient(settings.Paths.Socket)
	defer func() {
		if i, err := client.Inventory(ctx); err != nil || !i.Known || i.Release.Version != d.Manifest.Version || len(i.Running) != 0 {
			t.Errorf("the software at the local socket: %+v, %v", i, err)
		}
	}()
	until := func(what string, reached func(localapi.Status) bool) localapi.Status {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for {
			s, err := client.Status(ctx)
			if err == nil && reached(s) {
				return s
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come: %+v, %v", what, s, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	s := until("the decision", func(s localapi.Status) bool { return s.Update.State == "unconfirmed" })
	if s.Verdict.Tier != "affirming" || s.Update.Counter == nil || *s.Update.Counter != releasetest.Base || s.Update.Index != 1 || !s.Update.Raisable || s.Update.Confirmed {
		t.Errorf("before: verdict %s, update %+v", s.Verdict.Tier, s.Update)
	}
	u, err := client.ConfirmUpdate(ctx)
	if os.Getuid() != 0 {
		var refusal *localapi.Refusal
		if !errors.As(err, &refusal) || refusal.Status != http.StatusForbidden {
			t.Fatalf("who is not root confirms: %+v, %v", u, err)
		}
		return
	}
	if err != nil || u.State != "current" || u.Counter == nil || *u.Counter != releasetest.Base+1 || !u.Confirmed {
		t.Errorf("confirmed: %+v, %v", u, err)
	}
	if n, err := chip.ReadCounter(ctx, policy.RollbackCounter(key), nil); err != nil || n != releasetest.Base+1 {
		t.Errorf("the TPM's counter is at %d, %v", n, err)
	}
	recorded := func() string {
		list, err := client.Events(ctx, 0, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, e := range list.Events {
			if d, err := event.Parse(e); err != nil {
				t.Error(err)
			} else if err := contracttest.Check(presence.Topic(d.Source.Tenant, d.Source.Device, presence.Event), e); err != nil {
				t.Error(err)
			}
			for _, kind := range []string{"ward.update.confirmed", "ward.update.committed"} {
				if strings.Contains(string(e), `"type":"`+kind+`"`) {
					seen = append(seen, kind)
				}
			}
		}
		return strings.Join(seen, " ")
	}
	until("the record", func(localapi.Status) bool { return recorded() == "ward.update.confirmed ward.update.committed" })
	until("the state", func(s localapi.Status) bool { return s.Update.State == "current" })
}
