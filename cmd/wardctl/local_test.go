package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/cmd/wardctl/record"
	"ward/internal/agent/journal"
	"ward/internal/agent/localapi"
	"ward/internal/scripttest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Scripts about a daemon and its record. "record DIR" makes a journal of known
// events, "more DIR" appends one to it, "daemon STATUS DIR [ANSWERS]" answers on
// the socket "s" with the status of a JSON file, the events of a journal, to
// each confirmation of a release with the next line of a file, and notes which of
// its findings are acknowledged ("daemon STATUS DIR - CHECKPOINT": to the first
// question for a checkpoint with a file's), "anchored DIR" makes one with checkpoints,
// "scans DIR" answers questions for scans, "baseline TREE FILE" makes a file baseline,
// "installed" makes a device's files (see installed), and inventory.json is what the
// daemon tells of its software; "flip FILE OFFSET" turns a bit, "shorten FILE N" takes N bytes off the end.
//
// Verifies: SR-018
func TestLocalScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/local",
		UpdateScripts: *update,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":    scripttest.Status,
			"record":    func(ts *testscript.TestScript, _ bool, args []string) { recorded(ts, args[0], history) },
			"more":      func(ts *testscript.TestScript, _ bool, args []string) { recorded(ts, args[0], history[1:2]) },
			"daemon":    startDaemon,
			"anchored":  anchored(t),
			"installed": installed(t),
			"another-boot": func(ts *testscript.TestScript, _ bool, args []string) {
				write(ts, args[1], []byte("another"+ts.ReadFile(args[0])))
			},
			"scans": startScans, "baseline": writeBaseline,
			"same": same,
			"cut":  cut,
			"flip": func(ts *testscript.TestScript, _ bool, args []string) {
				b := []byte(ts.ReadFile(args[0]))
				b[number(ts, args[1])] ^= 1
				write(ts, args[0], b)
			},
			"shorten": func(ts *testscript.TestScript, _ bool, args []string) {
				b := ts.ReadFile(args[0])
				write(ts, args[0], []byte(b[:len(b)-number(ts, args[1])]))
			},
		},
	})
}

var when = time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)

func about(kind string, f finding.Finding, subject string) event.Event {
	return event.Event{Type: kind, Time: when, Subject: subject, Severity: f.Severity, Finding: &f}
}

var history = []event.Event{
	{Type: event.DaemonStarted, Time: when, Severity: finding.Info, Report: json.RawMessage(`{"session":1,"version":"1.0.0"}`)},
	about(event.FindingIncident, finding.New(finding.IMAUnknownFile, "sha256 is in no release").On("/tmp/a\x1b[31mred"), ""),
	about(event.FindingRaised, finding.New(finding.LinkDown, "dial: connection refused"), "uplink"),
	about(event.FindingCleared, finding.New(finding.LinkDown, ""), "uplink"),
}

func openJournal(ts *testscript.TestScript, dir string) *journal.Journal {
	dir = ts.MkAbs(dir)
	ts.Check(os.MkdirAll(dir, 0o700))
	j, err := journal.Open(journal.Config{
		Dir: dir, Source: event.Source{Tenant: "lab", Device: "pump-1"}, Boot: "b",
		Monotonic: func() time.Duration { return 8 * time.Second },
	})
	ts.Check(err)
	return j
}

func recorded(ts *testscript.TestScript, dir string, events []event.Event) {
	j := openJournal(ts, dir)
	for _, e := range events {
		ts.Check(j.Record(context.Background(), e))
	}
	ts.Check(j.Close())
}

func startDaemon(ts *testscript.TestScript, _ bool, args []string) {
	var s localapi.Status
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &s))
	j := openJournal(ts, args[1])
	ctx, cancel := context.WithCancel(context.Background())
	socket := ts.MkAbs("s")
	config := localapi.Config{Socket: socket, Status: func() localapi.Status { return s }, Journal: j}
	switch {
	case len(args) > 3:
		config.Actions = checkpointAnswers(ts, args[3])
	case len(args) > 2:
		config.Actions = confirmAnswers(ts, args[2])
	}
	var mu sync.Mutex
	config.Status = func() localapi.Status {
		mu.Lock()
		defer mu.Unlock()
		now := s
		now.Findings = slices.Clone(s.Findings)
		return now
	}
	config.Actions = append(config.Actions, localapi.AcknowledgeConditions(func(_ context.Context, by string, code finding.Code, subject string) ([]localapi.Condition, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := finding.Lookup(code); !ok {
			return nil, localapi.Refuse(http.StatusBadRequest, "there is no finding %q", code)
		}
		var out []localapi.Condition
		for i := range s.Findings {
			if c := &s.Findings[i]; c.Code == code && (subject == "" || c.Subject == subject) {
				out = append(out, *c)
				c.Acknowledged = &localapi.Acknowledgement{Time: when, By: "service"}
			}
		}
		if len(out) == 0 {
			return nil, localapi.Refuse(http.StatusConflict, "%s does not hold on this device", code)
		}
		return out, nil
	}))
	config.Actions = append(config.Actions, tellInventory(ts)...)
	api := localapi.New(config)
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
		ts.Check(j.Close())
	})
	await(ts, ctx, socket)
}

// await returns once the daemon answers.
func await(ts *testscript.TestScript, ctx context.Context, socket string) {
	for range 200 {
		if _, err := localapi.NewClient(socket).Status(ctx); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Fatalf("the daemon does not answer")
}

// TestEventsFollow: an event that comes later is printed without another call.
//
// Verifies: SR-018
func TestEventsFollow(t *testing.T) {
	dir, err := os.MkdirTemp("", "ward")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	j, err := journal.Open(journal.Config{
		Dir: dir, Source: event.Source{Tenant: "lab", Device: "pump-1"}, Boot: "b", Monotonic: func() time.Duration { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	socket := filepath.Join(dir, "s")
	api := localapi.New(localapi.Config{Socket: socket, Status: func() localapi.Status { return localapi.Status{} }, Journal: j})
	served := make(chan error, 1)
	go func() { served <- api.Run(ctx) }()
	for range 200 {
		if _, err := localapi.NewClient(socket).Status(ctx); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}

	lines := make(chan string, 10)
	following, stop := context.WithCancel(t.Context())
	cmd := record.NewEvents(defaultSocket)
	cmd.SetArgs([]string{"--socket", socket, "--follow", "--severity", "high"})
	cmd.SetOut(sink(lines))
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(following) }()
	want := func(text string) {
		t.Helper()
		select {
		case line := <-lines:
			if !strings.Contains(line, text) {
				t.Errorf("printed %q, want %s", line, text)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing is printed, want %s", text)
		}
	}
	want("journal.begun-anew")
	for _, e := range history[1:3] { // the second is below the severity
		if err := j.Record(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	want("ima.unknown-file")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("following ended with %v", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type sink chan<- string

func (s sink) Write(b []byte) (int, error) {
	s <- string(b)
	return len(b), nil
}

// An event that stands for others says for how many.
//
// Verifies: SR-058
func TestEventsThatStandForOthers(t *testing.T) {
	e := event.Decoded{Event: history[1]}
	e.Repeated = &event.Repeated{Count: 41, First: when, Last: when.Add(time.Minute)}
	if got := record.Line(e); !strings.HasSuffix(got, "sha256 is in no release (41 times from 2026-11-24T01:02:03Z to 2026-11-24T01:03:03Z)") {
		t.Errorf("the line is %q", got)
	}
}
