package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/health"
	"ward/internal/agent/localapi"
	"ward/internal/config"
	"ward/internal/contracttest"
	"ward/internal/daemon/early"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// startBare runs a daemon on a device that has nothing, with a configuration that
// cannot be used, until the test ends it.
func startBare(t *testing.T, dir string, privileges string) (client *localapi.Client, stop func()) {
	t.Helper()
	settings := config.Default()
	none := filepath.Join(dir, "none")
	settings.Paths.State, settings.Paths.Socket = filepath.Join(dir, "state"), filepath.Join(dir, "s")
	settings.Paths.Release, settings.Paths.Baseline, settings.Paths.Trust, settings.Paths.SysFS = none, none, none, none
	settings.TPM.Device = none
	d := &daemon{early: new(early.Opened), config: settings, log: slog.New(slog.DiscardHandler), started: time.Now()}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	d.health = health.New(d.journal, nil, d.log)
	ctx, cancel := context.WithCancel(t.Context())
	d.begin(ctx, errors.New("wardd.toml:2: nonsense"), privileges)
	d.assemble()
	ended := make(chan struct{})
	go func() { d.run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return localapi.NewClient(settings.Paths.Socket), stop
}

// awaitTold waits until the daemon's status tells a condition that fits.
func awaitTold(t *testing.T, client *localapi.Client, what string, fits func(localapi.Condition) bool) localapi.Status {
	t.Helper()
	patience, done := context.WithTimeout(t.Context(), 3*time.Minute)
	defer done()
	for {
		s, err := client.Status(patience)
		if err == nil && slices.ContainsFunc(s.Findings, fits) {
			return s
		}
		select {
		case <-patience.Done():
			t.Fatalf("the status does not tell %s: %+v, %v", what, s.Findings, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// acknowledgements lists the events about it in the record, as they are sent. All
// of the record keeps the contract.
func acknowledgements(t *testing.T, client *localapi.Client) []string {
	t.Helper()
	all, err := client.Events(t.Context(), 0, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, raw := range all.Events {
		e, err := event.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := contracttest.Check(presence.Topic(e.Source.Tenant, e.Source.Device, presence.Event), raw); err != nil {
			t.Error(err)
		}
		if e.Type == event.FindingAcknowledged {
			out = append(out, string(raw))
		}
	}
	return out
}

// A condition is acknowledged through the local socket: the record tells it once,
// with a role and no name, the status shows it, and a daemon that starts anew
// wants it anew.
//
// Verifies: SR-062
func TestAcknowledgeAtTheBedside(t *testing.T) {
	dir := short(t)
	client, stop := startBare(t, dir, "")
	open := func(c localapi.Condition) bool { return c.Code == finding.DaemonConfig && c.Acknowledged == nil }
	awaitTold(t, client, "the condition", open)
	role := event.ByService
	if os.Getuid() == 0 {
		role = event.ByRoot
	}
	for range 2 {
		cs, err := client.Acknowledge(t.Context(), finding.DaemonConfig, "")
		if err != nil || len(cs) != 1 || cs[0].Subject != "configuration" {
			t.Fatalf("acknowledged %+v, error %v", cs, err)
		}
		awaitTold(t, client, "who acknowledged it", func(c localapi.Condition) bool {
			return c.Code == finding.DaemonConfig && c.Acknowledged != nil && c.Acknowledged.By == role && !c.Acknowledged.Time.IsZero()
		})
	}
	sent := acknowledgements(t, client)
	if len(sent) != 1 {
		t.Fatalf("%d events, want one: %s", len(sent), sent)
	}
	var e struct{ Data map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(sent[0]), &e); err != nil {
		t.Fatal(err)
	}
	if got, want := string(e.Data["report"]), `{"by":"`+role+`"}`; got != want || !strings.Contains(sent[0], `"severity":"high"`) {
		t.Errorf("recorded %s, want the report %s", sent[0], want)
	}

	for name, row := range map[string]struct {
		code    finding.Code
		subject string
		status  int
	}{
		"about something else": {finding.DaemonConfig, "network", http.StatusConflict},
		"does not hold":        {finding.LinkTLSVersion, "", http.StatusConflict},
		"an incident":          {finding.JournalReset, "", http.StatusConflict},
		"no such code":         {"boot.nonsense", "", http.StatusBadRequest},
		"no code":              {"", "", http.StatusBadRequest},
	} {
		_, err := client.Acknowledge(t.Context(), row.code, row.subject)
		var r *localapi.Refusal
		if !errors.As(err, &r) || r.Status != row.status {
			t.Errorf("%s: %v, want status %d", name, err, row.status)
		}
	}
	if sent := acknowledgements(t, client); len(sent) != 1 {
		t.Errorf("what was refused is recorded: %s", sent)
	}

	stop()
	client, _ = startBare(t, dir, "")
	awaitTold(t, client, "the condition as not acknowledged behind a start", open)
}

// A daemon that could not give up its privileges says so.
//
// Verifies: SR-061
func TestPrivilegesThatStayAreTold(t *testing.T) {
	client, _ := startBare(t, short(t), "runs as root")
	awaitTold(t, client, "the privilege", func(c localapi.Condition) bool {
		return c.Code == finding.DaemonPrivileged && strings.Contains(c.Detail, "runs as root")
	})
}
