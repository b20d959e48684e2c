package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/daemon/early"
)

// short is a folder whose path leaves room for a socket's name, unix(7).
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ward")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A configuration that cannot be used does not keep the daemon from its work:
// it runs on built-in settings (here with paths of the test) and says so.
//
// Verifies: SR-015 SR-017
func TestBrokenConfigurationIsReportedByARunningDaemon(t *testing.T) {
	dir := short(t)
	file := filepath.Join(dir, "wardd.toml")
	if err := os.WriteFile(file, []byte("version = 1\nnonsense = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	configErr := Check(file)
	if configErr == nil {
		t.Fatal("an unknown key is accepted")
	}
	settings := config.Default()
	none := filepath.Join(dir, "none")
	settings.Paths = config.Paths{
		State: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "s"),
		Release: none, Baseline: none, Trust: none, SysFS: none,
	}
	settings.TPM.Device = none
	d := &daemon{early: new(early.Opened), config: settings, log: slog.New(slog.DiscardHandler), started: time.Now()}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	d.health = health.New(d.journal, nil, d.log)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.begin(ctx, configErr, "")
	d.assemble()
	ended := make(chan struct{})
	go func() { d.run(ctx); close(ended) }()

	client := localapi.NewClient(settings.Paths.Socket)
	patience, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	for {
		s, err := client.Status(patience)
		if err == nil && holds(s, "daemon.config-invalid", file+":2: nonsense") && holds(s, "boot.release-no-trust", "") {
			if s.Verdict.Tier != "none" || s.Link.State != "off" || s.Link.Session != 1 || s.Memory.ResidentKiB <= 0 {
				t.Errorf("status %+v", s)
			}
			break
		}
		select {
		case <-patience.Done():
			t.Fatalf("the status does not tell: %+v, %v", s.Findings, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(farewell + 2*time.Second):
		t.Fatal("the daemon does not stop")
	}
}

func holds(s localapi.Status, code, detail string) bool {
	for _, f := range s.Findings {
		if string(f.Code) == code && strings.Contains(f.Detail, detail) {
			return true
		}
	}
	return false
}

func TestSessionsAreCounted(t *testing.T) {
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	d.config.Paths.State = t.TempDir()
	for want := uint64(1); want <= 3; want++ {
		if got := d.nextSession(); got != want {
			t.Errorf("session %d, want %d", got, want)
		}
	}
	file := filepath.Join(d.config.Paths.State, "session")
	if err := os.WriteFile(file, []byte("not a number\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.nextSession(); got != 1 {
		t.Errorf("session %d behind a damaged count, want 1", got)
	}
	d.config.Paths.State = filepath.Join(d.config.Paths.State, "none")
	if got := d.nextSession(); got != 1 {
		t.Errorf("session %d without a state folder, want 1", got)
	}
}

func TestReport(t *testing.T) {
	if got := string(report(map[string]any{"version": "1.0.0", "session": 7})); got != `{"session":7,"version":"1.0.0"}` {
		t.Errorf("report %s", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a report that cannot be encoded is no panic")
		}
	}()
	report(map[string]any{"f": func() {}})
}

func TestLog(t *testing.T) {
	var text, json strings.Builder
	newLog(config.Log{Level: "warn", Format: "text"}, &text).Info("quiet")
	newLog(config.Log{Level: "warn", Format: "text"}, &text).Warn("loud")
	newLog(config.Log{Level: "debug", Format: "json"}, &json).Debug("loud")
	if strings.Contains(text.String(), "quiet") || !strings.Contains(text.String(), "level=WARN msg=loud") {
		t.Errorf("text log %q", text.String())
	}
	if !strings.Contains(json.String(), `"level":"DEBUG","msg":"loud"`) {
		t.Errorf("JSON log %q", json.String())
	}
}
