package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
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

const person = "Anna Petersen"

// startWithStick runs a daemon on a device whose USB stick, found at the start, is
// called after a person.
func startWithStick(t *testing.T, state string) (client *localapi.Client, dir string) {
	t.Helper()
	dir = short(t)
	settings := config.Default()
	none := filepath.Join(dir, "none")
	settings.Paths.State, settings.Paths.Socket = state, filepath.Join(dir, "s")
	settings.Paths.Release, settings.Paths.Baseline, settings.Paths.Trust, settings.Paths.SysFS = none, none, none, filepath.Join(dir, "sys")
	settings.TPM.Device = none
	for name, text := range map[string]string{
		"1-1/idVendor": "46f4", "1-1/idProduct": "0001", "1-1/manufacturer": person, "1-1/product": person + "'s stick", "1-1/serial": "SN " + person,
		"1-1:1.0/bInterfaceClass": "08", person + ":1.0/bInterfaceClass": "08",
	} {
		file := filepath.Join(settings.Paths.SysFS, "bus/usb/devices", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := &daemon{config: settings, log: slog.New(slog.DiscardHandler), started: time.Now(), early: &early.Opened{}}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	d.health = health.New(d.journal, nil, d.log)
	ctx, cancel := context.WithCancel(t.Context())
	d.begin(ctx, nil, "")
	d.assemble()
	ended := make(chan struct{})
	go func() { d.run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return localapi.NewClient(settings.Paths.Socket), dir
}

// published is the record as the fleet gets it; all of it keeps the contract.
func published(t *testing.T, client *localapi.Client) string {
	t.Helper()
	all, err := client.Events(t.Context(), 0, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, raw := range all.Events {
		e, err := event.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := contracttest.Check(presence.Topic(e.Source.Tenant, e.Source.Device, presence.Event), raw); err != nil {
			t.Error(err)
		}
		out.Write(raw)
		out.WriteByte('\n')
	}
	return out.String()
}

// Names that are planted in what a device says of itself, in the reports of a host
// application and in what a technician writes do not leave the device; those who work
// at it see them.
//
// Verifies: SR-099, SR-100, SR-102
func TestPlantedNamesStayOnTheDevice(t *testing.T) {
	state := filepath.Join(short(t), "state")
	client, _ := startWithStick(t, state)
	s := awaitTold(t, client, "the stick", func(c localapi.Condition) bool {
		return c.Code == finding.USBPresentUnexpected && c.Subject == "usb/1-1:1.0"
	})
	if len(s.Devices) != 1 || s.Devices[0].Name != person+" "+person+"'s stick" || s.Devices[0].Expected {
		t.Errorf("the status tells of %+v", s.Devices)
	}
	if _, err := client.SwitchServiceMode(t.Context(), localapi.ServiceModeRequest{On: true, Minutes: 5, Reason: "bed of " + person}); err != nil {
		t.Error(err)
	}
	a, err := client.ReportBreakGlass(t.Context(), localapi.BreakGlass{Role: "nurse " + person, Why: "asystole of patient; called by anna petersen", Person: person})
	if err != nil || !a.Recorded || a.Detail != "" {
		t.Errorf("answer %+v, error %v", a, err)
	}
	if _, err := client.TakeLease(t.Context(), "pump-ui", time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := client.TakeLease(t.Context(), person, time.Minute); err == nil {
		t.Error("a person holds a lease")
	}
	if err := client.EndLease(t.Context(), "pump-ui"); err != nil {
		t.Error(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	text := published(t, client)
	for !strings.Contains(text, event.TherapyLease) && time.Now().Before(deadline) { // recorded behind the answer
		time.Sleep(10 * time.Millisecond)
		text = published(t, client)
	}
	for _, want := range []string{event.ServiceMode, event.BreakGlass, event.TherapyLease, string(finding.USBStorageInserted), a.ID} {
		if !strings.Contains(text, want) {
			t.Errorf("the record does not tell of %s", want)
		}
	}
	if low := strings.ToLower(text); strings.Contains(low, "anna") || strings.Contains(low, "petersen") {
		t.Errorf("a name leaves the device: %s", text)
	}
	if notes, err := client.BreakGlassNotes(t.Context()); os.Getuid() == 0 && (err != nil || len(notes) != 1 || notes[0].Person != person || notes[0].ID != a.ID) {
		t.Errorf("on the device: %+v, error %v", notes, err)
	}
}

// A full disk keeps nobody from the patient: the answer comes, and says what is so.
//
// Verifies: SR-102
func TestBreakGlassOnAFullDisk(t *testing.T) {
	for name, row := range map[string]struct{ state, detail string }{
		"nothing can be written": {"/proc/none/state", "it is in memory only: "},
		"a whole disk":           {filepath.Join(short(t), "state"), ""},
	} {
		client, dir := startWithStick(t, row.state)
		patience, done := context.WithTimeout(t.Context(), 20*time.Second)
		for {
			if _, err := client.Status(patience); err == nil || patience.Err() != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		done()
		for _, request := range []string{`{"role":"nurse","why":"asystole"}`, "", "help", `{"role":"` + strings.Repeat("x", 1<<20) + `"}`} {
			status, body := post(t, filepath.Join(dir, "s"), "/v1/break-glass", request)
			var a localapi.BreakGlassAnswer
			if err := json.Unmarshal(body, &a); status != http.StatusOK || err != nil || !a.Recorded || len(a.ID) != 12 || !strings.Contains(a.Detail, row.detail) {
				t.Errorf("%s, %.20q: status %d, %s", name, request, status, body)
			}
		}
		if n := strings.Count(published(t, client), event.BreakGlass); n != 4 {
			t.Errorf("%s: %d are recorded, want 4", name, n)
		}
	}
}

// post asks as a host application without any library of Ward's does: HTTP over the
// UNIX socket (docs/host-application.md).
func post(t *testing.T, socket, path, body string) (int, []byte) {
	t.Helper()
	web := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer web.CloseIdleConnections()
	resp, err := web.Post("http://ward"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

// What is asked wrongly is refused with a reason and changes nothing.
//
// Verifies: SR-104
func TestRequestsThatAreRefused(t *testing.T) {
	client, dir := startWithStick(t, filepath.Join(short(t), "state"))
	awaitTold(t, client, "anything", func(localapi.Condition) bool { return true })
	for _, row := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/v1/lease", `{"holder":"pump-ui"}`, 400, "at least one second"},
		{"/v1/lease", `{"holder":"pump-ui","seconds":-9223372036854775808}`, 400, "at least one second"},
		{"/v1/lease", `{"holder":"pump-ui","seconds":9223372036854775807}`, 200, `"seconds":14400`},
		{"/v1/lease", `pump-ui`, 400, "want {"},
		{"/v1/lease/end", `{}`, 409, "nobody of this name"},
		{"/v1/lease/end", ``, 400, "want {"},
		{"/v1/lease/end?holder=pump-ui", ``, 200, ""},
		{"/v1/service-mode", `{"on":true}`, 400, "1 to 480 minutes"},
		{"/v1/service-mode", `{"on":true,"minutes":-1}`, 400, "1 to 480 minutes"},
		{"/v1/service-mode", `{"on":true,"minutes":9000000000}`, 400, "1 to 480 minutes"},
		{"/v1/service-mode", `on`, 400, "want {"},
		{"/v1/service-mode", `{"on":false}`, 200, `"on":false`},
	} {
		if status, body := post(t, filepath.Join(dir, "s"), row.path, row.body); status != row.status || !strings.Contains(string(body), row.want) {
			t.Errorf("%s %s: status %d, %s, want %d, %s", row.path, row.body, status, body, row.status, row.want)
		}
	}
	if s, err := client.Status(t.Context()); err != nil || s.Access.Service.On || len(s.Access.Leases) != 0 {
		t.Errorf("behind it %+v, error %v", s.Access, err)
	}
	_, err := client.SwitchServiceMode(t.Context(), localapi.ServiceModeRequest{On: true})
	var r *localapi.Refusal
	if !errors.As(err, &r) || r.Status != http.StatusBadRequest {
		t.Errorf("the client says %v", err)
	}
}
