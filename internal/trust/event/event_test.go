package event_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

var update = flag.Bool("update", false, "write the golden messages anew")

// contract is where the golden messages lie that backend teams read.
const contract = "../../../docs/contract"

func stamp(sequence uint64) event.Stamp {
	return event.Stamp{
		Source: event.Source{Tenant: "lab", Device: "pump-0001"}, Epoch: 1, Sequence: sequence,
		Boot: "0b9e7b8a-4ad9-4f4b-9a3f-1d6a2a0a7c11", Monotonic: 8123456789, Prev: chain.Next([]byte("the record before")),
	}
}

// samples has one event of every type.
func samples() map[string]event.Event {
	when := time.Date(2026, 11, 24, 1, 2, 3, 4000000, time.UTC)
	unknown := finding.New(finding.IMAUnknownFile, "sha256 is in no release").On("/tmp/stranger").AtIndex(93)
	differs := finding.New(finding.BootPCRDiffers, "PCR 4 does not hold the released value").At(4).Want(strings.Repeat("0a", 32), strings.Repeat("0b", 32))
	failing := finding.New(finding.JournalFailing, "write journal: no space left on device")
	plain := func(kind, report string) event.Event {
		return event.Event{Type: kind, Time: when, Severity: finding.Info, Report: json.RawMessage(report)}
	}
	verdict := plain(event.BootVerdict, `{"verdict":"contraindicated","claims":{"boot":"contraindicated","eventlog":"affirming"},"events":34,"imaEntries":93}`)
	verdict.Severity = finding.Critical
	seen := event.Event{Type: event.FindingAcknowledged, Time: when, Subject: "journal", Severity: failing.Severity, Finding: &failing, Report: event.Acknowledgement{By: event.ByService}.Encode()}
	goodbye := plain(event.Decommissioned, `{"made":"2026-01-05T09:00:00Z"}`)
	goodbye.Subject, goodbye.Severity = "pump-0001", finding.High
	written := plain(event.IntegrityUpdate, `{"program":"/usr/bin/rauc","first":"2026-11-24T01:00:03Z","last":"2026-11-24T01:01:33Z","changes":412,"files":3,"bytes":104857600,"ended":true}`)
	written.Subject = "/usr/bin/rauc"
	glass := plain(event.BreakGlass, `{"id":"0123456789ab","role":"nurse","why":"asystole, pump locked","by":"service"}`)
	glass.Severity = finding.Critical
	return map[string]event.Event{
		"integrity-update":         written,
		"finding-raised":           {Type: event.FindingRaised, Time: when, Subject: "pcr-4", Severity: differs.Severity, Finding: &differs},
		"finding-cleared":          {Type: event.FindingCleared, Time: when, Subject: "journal", Severity: failing.Severity, Finding: &failing},
		"finding-incident":         {Type: event.FindingIncident, Time: when, Severity: unknown.Severity, Finding: &unknown},
		"access-break-glass":       glass,
		"access-session":           plain(event.AccessSession, `{"what":"login","source":"audit","terminal":"serial","account":"root"}`),
		"access-privilege":         plain(event.AccessPrivilege, `{"what":"sudo","source":"audit","terminal":"local","by":"~0123456789ab","success":true}`),
		"access-service-mode":      plain(event.ServiceMode, `{"on":true,"by":"service","minutes":60}`),
		"access-service-mode-over": plain(event.ServiceMode, `{"on":false,"by":"time","minutes":60}`),
		"therapy-lease":            plain(event.TherapyLease, `{"state":"begin","by":"service"}`),
		"therapy-lease-over":       plain(event.TherapyLease, `{"state":"end","by":"time","seconds":1860}`),
		"device-attached":          plain(event.DeviceAttached, `{"kind":"usb","port":"1-1:1.0","bus":"usb","class":"08","vendor":"46f4","product":"0001","serial":"~0123456789ab","expected":false}`),
		"device-detached":          plain(event.DeviceDetached, `{"kind":"network","name":"eth1","bus":"board"}`),
		"finding-repeated": {
			Type: event.FindingIncident, Time: when, Severity: unknown.Severity, Finding: &unknown,
			Repeated: &event.Repeated{Count: 41, First: when.Add(-40 * time.Second), Last: when},
		},
		"clock-stepped":   plain(event.ClockStepped, `{"from":"1970-01-01T00:00:09Z","to":"2026-11-24T01:02:03Z","seconds":1795482114}`),
		"posture-changed": plain(event.PostureChanged, `{"claim":"kernel.modules","reason":"module","added":["rootkit"]}`),
		"boot-verdict":    verdict,
		"integrity-scan":  plain(event.IntegrityScan, `{"verdict":"differs","reason":"scheduled","full":false,"seconds":412.5,"pausedSeconds":60,"files":2130,"folders":240,"others":310,"bytes":61203456,"hashedBytes":1048576,"byHash":12,"byVerity":3,"byRootHash":2100,"byUse":14,"changed":1,"missing":0,"new":2,"unreadable":0,"allowed":5,"notEntered":6,"mounts":[{"path":"/","trust":"dm-verity"}]}`),
		"boot-verdict-affirming": plain(event.BootVerdict, `{"verdict":"affirming","claims":{"boot":"affirming","eventlog":"affirming","pcrs":"affirming","release":"affirming","runtime":"affirming"},"bringUp":false,"events":34,"imaEntries":93,`+
			`"release":{"product":"pump","version":"2.0","digest":"`+strings.Repeat("0a", 32)+`"},"pcrs":{"4":{"value":"`+strings.Repeat("0b", 32)+`","state":"matches"},"10":{"value":"`+strings.Repeat("0c", 32)+`","state":"recorded"}},"findings":0,"unlisted":0,"tookMs":41.2,"tpmMs":18.4}`),
		"finding-acknowledged":  seen,
		"device-decommissioned": goodbye,
		"link-connected-again":  plain(event.LinkConnected, `{"broker":"wss://broker.example:443","session":7}`),
		"daemon-started":        plain(event.DaemonStarted, `{"session":7,"version":"1.0.0"}`),
		"daemon-stopped":        plain(event.DaemonStopped, `{"session":7}`),
		"link-connected":        plain(event.LinkConnected, `{"broker":"tls://broker.example:8883"}`),
		"identity-used":         plain(event.IdentityUsed, `{"use":"service","by":"uid 990"}`),
		"update-confirmed":      plain(event.UpdateConfirmed, `{"product":"pump","version":"2.0","digest":"`+strings.Repeat("0a", 32)+`","rollbackIndex":3,"by":"uid 0, pid 17"}`),
		"update-committed":      plain(event.UpdateCommitted, `{"product":"pump","version":"2.0","digest":"`+strings.Repeat("0a", 32)+`","rollbackIndex":3,"counter":23}`),
		"link-key-rotated":      plain(event.LinkKeyRotated, `{"use":"receipt","serial":1,"from":"`+strings.Repeat("0a", 32)+`","to":"`+strings.Repeat("0b", 32)+`"}`),
		"journal-checkpoint":    plain(event.Checkpoint, `{"counter":"durable","value":1,"sequence":41,"head":"9869eceae0ebd353a26747bc5d04f9f882e6b44fa2c779115f0e2e5a459aaaa2","evidence":"b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0","attest":"/1RDR4AUACIAC9uRZEgY7ALRL1uS/B7OYEg9dU5PqFmiqXclvIvcpuNKACAU12a0RjrJKT7gvMI85czYTPHD3SnrKPaSNRIOfvH+VwAAAAAAAAAeBfLuiEbdB7EB6QAwXi4xPtkAIgALRvInE+FRRQlcFkW1RCN5cECy8j4O5QmUY221mMtuff0AAAAIAAAAAAAAAAE=","signature":"ABgACwAgdzP4xj4fpzGmsfDzgQZVOsYl46RS8HIF0ecErB8Sk9oAILnY2UtoMY4yeDxyP/P0uTvm0R3HECuYOiTuVAuwEwtl"}`),
	}
}

func TestGoldenMessages(t *testing.T) {
	schema := compile(t, "event.v1.schema.json")
	for name, e := range samples() {
		got, err := event.Encode(e, stamp(42))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		file := filepath.Join(contract, "event-"+name+".json")
		if *update {
			if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
			t.Errorf("%s (- golden, + now): %s", name, diff)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(got))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s breaks the schema: %v", name, err)
		}
		d, err := event.Parse(got)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := event.ParseAcknowledgement(d.Report); d.Type == event.FindingAcknowledged && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := event.Encode(d.Event, d.Stamp); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: parsed and encoded again it is %s, error %v", name, again, err)
		}
	}
}

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join("../../../docs/schema", name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Verifies: SR-020
func TestTextsAreBounded(t *testing.T) {
	f := finding.New(finding.IMAUnknownFile, strings.Repeat("d", 1<<20)).On("/" + strings.Repeat("ä", 1<<20))
	b, err := event.Encode(event.Event{Type: event.FindingIncident, Severity: f.Severity, Finding: &f}, stamp(1+1))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 16<<10 {
		t.Errorf("an event with endless texts has %d bytes", len(b))
	}
	d, err := event.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(d.Finding.Path, "…") || !strings.HasSuffix(d.Finding.Detail, "…") {
		t.Error("texts that were cut are not marked")
	}
}

// Verifies: SR-020
func TestTextsHoldVisibleCharactersOnly(t *testing.T) {
	hostile := "/tmp/a\x1b[2J\r\nok\u202eb\u0085 ä\xff"
	f := finding.New(finding.IMAUnknownFile, hostile).On(hostile)
	b, err := event.Encode(event.Event{Type: event.FindingIncident, Subject: hostile, Severity: f.Severity, Finding: &f}, stamp(2))
	if err != nil {
		t.Fatal(err)
	}
	d, err := event.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	want := `/tmp/a\x1b[2J\r\nok\u202eb\u0085 ä` + "\ufffd"
	for _, got := range []string{d.Subject, d.Finding.Path, d.Finding.Detail} {
		if got != want {
			t.Errorf("text %q, want %q", got, want)
		}
	}
}

func TestAClockBeyondAllYears(t *testing.T) {
	e := samples()["daemon-started"]
	e.Time = time.Date(292277, 1, 1, 0, 0, 0, 0, time.UTC)
	b, err := event.Encode(e, stamp(2))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := event.Parse(b); err != nil || d.Time.Year() != 1970 {
		t.Errorf("the time reads %v, error %v", d.Time, err)
	}
}

func TestRefused(t *testing.T) {
	good, err := event.Encode(samples()["finding-incident"], stamp(3))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another version":       {`"specversion":"1.0"`, `"specversion":"2.0"`},
		"another id":            {`"id":"pump-0001/1/3"`, `"id":"pump-0001/1/4"`},
		"a wildcard as device":  {`urn:ward:lab:pump-0001`, `urn:ward:lab:#`},
		"no severity":           {`"severity":"high","datacontenttype"`, `"datacontenttype"`},
		"an unknown severity":   {`"severity":"high","datacontenttype"`, `"severity":"worst","datacontenttype"`},
		"sequence 0":            {`"sequence":3`, `"sequence":0`},
		"no finding":            {`"finding":`, `"filing":`},
		"repeated never":        {`"data":{`, `"data":{"repeated":{"count":0,"first":"2026-11-24T01:02:03Z","last":"2026-11-24T01:02:03Z"},`},
		"a short previous hash": {`"prev":"`, `"prev":"00`},
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if bad == string(good) {
			t.Fatalf("%s: nothing was changed in %s", name, good)
		}
		if _, err := event.Parse([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := event.Parse(append([]byte(`{"pad":"`+strings.Repeat("x", event.MaxSize)+`",`), good[1:]...)); err == nil {
		t.Error("an event over the bound is accepted")
	}
	if _, err := event.Parse(append([]byte(`{"later":1,`), good[1:]...)); err != nil {
		t.Errorf("a key of a later minor version is refused: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range samples() {
		b, err := event.Encode(e, stamp(2))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := event.Parse(b)
		if err != nil {
			return
		}
		_, _ = event.ParseAcknowledgement(d.Report) // a report of whatever type does not panic
		out, err := event.Encode(d.Event, d.Stamp)
		if err != nil {
			t.Fatalf("what was parsed cannot be encoded: %v", err)
		}
		again, err := event.Parse(out)
		if err != nil {
			t.Fatalf("what was encoded cannot be parsed: %v", err)
		}
		if again.ID != d.ID || again.Type != d.Type || again.Prev != d.Prev {
			t.Fatalf("parse and encode change the event: %+v, %+v", d, again)
		}
	})
}
