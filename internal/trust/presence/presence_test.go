package presence_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"ward/internal/format/chain"
	"ward/internal/trust/presence"
)

var (
	moment = time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	birth  = presence.Status{
		State: presence.Online, Tenant: "acme", Device: "pump-1", Boot: "2a1b3c4d-0000-4000-8000-000000000001", Session: 7, Epoch: 1,
		Release: "4.2.0", Version: "0.1.0", Capabilities: []string{"tpm", "ima"}, WorryAfterSeconds: 900, Time: &moment,
		Keys: []string{"fd110d301d2f077d", "0b9e7b8a4ad9cf4b"},
	}
)

const goldenBirth = `{"state":"online","tenant":"acme","device":"pump-1","boot":"2a1b3c4d-0000-4000-8000-000000000001","session":7,"epoch":1,` +
	`"release":"4.2.0","version":"0.1.0","capabilities":["tpm","ima"],` +
	`"keys":["fd110d301d2f077d","0b9e7b8a4ad9cf4b"],"worryAfterSeconds":900,"time":"2026-03-01T12:00:00.000000005Z"}`

var update = flag.Bool("update", false, "rewrite the golden messages of docs/contract")

// The golden messages of docs/contract are what this code writes, and keep
// their schemas.
//
// Verifies: SR-014
func TestContract(t *testing.T) {
	farewell, will, bare := birth, birth, birth
	bare.Keys = nil // as first published
	farewell.State, farewell.Keys = presence.Offline, nil
	will.State, will.Time, will.Keys = presence.Lost, nil, nil
	messages := make(map[string][]byte)
	for name, s := range map[string]presence.Status{"status-online": bare, "status-online-keys": birth, "status-offline": farewell, "status-lost": will} {
		b, err := presence.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		messages[name] = b
	}
	shed, err := presence.EncodeShed(presence.Shed{Epoch: 1, Sequence: 9, Hash: chain.Next([]byte("ward"))})
	if err != nil {
		t.Fatal(err)
	}
	messages["shed"] = shed
	for name, b := range messages {
		file := filepath.Join("../../../docs/contract", name+".json")
		if *update {
			if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.TrimSpace(golden); !bytes.Equal(b, want) {
			t.Errorf("%s is written as\n%s\nand the contract says\n%s", name, b, want)
		}
		kind, _, _ := strings.Cut(name, "-")
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		schema, err := c.Compile("../../../docs/schema/" + kind + ".v1.schema.json")
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Verifies: SR-014
func TestStatus(t *testing.T) {
	b, err := presence.Encode(birth)
	if err != nil || string(b) != goldenBirth {
		t.Errorf("birth: %v\n%s\nwant\n%s", err, b, goldenBirth)
	}
	got, err := presence.Parse([]byte(strings.Replace(goldenBirth, "{", `{"later":{"x":1},`, 1)))
	if err != nil || !reflect.DeepEqual(got, birth) {
		t.Errorf("read %+v, %v", got, err)
	}
	for name, text := range map[string]string{
		"empty":               "",
		"cut":                 goldenBirth[:80],
		"another state":       strings.Replace(goldenBirth, "online", "fine", 1),
		"a device with a dot": strings.Replace(goldenBirth, "pump-1", "pump.1", 1),
		"no session":          strings.Replace(goldenBirth, `"session":7`, `"session":0`, 1),
		"no epoch":            strings.Replace(goldenBirth, `"epoch":1`, `"epoch":0`, 1),
		"no worry":            strings.Replace(goldenBirth, `900`, `0`, 1),
		"negative worry":      strings.Replace(goldenBirth, `900`, `-9`, 1),
		"long release":        strings.Replace(goldenBirth, `4.2.0`, strings.Repeat("4", 200), 1),
		"many keys":           strings.Replace(goldenBirth, `["fd`, `["x"`+strings.Repeat(`,"x"`, presence.MaxKeys-1)+`,"fd`, 1),
		"a key's long name":   strings.Replace(goldenBirth, `fd110d301d2f077d`, strings.Repeat("f", 200), 1),
		"too large":           strings.Repeat(" ", presence.MaxStatus) + goldenBirth,
	} {
		if s, err := presence.Parse([]byte(text)); err == nil {
			t.Errorf("%s: read %+v", name, s)
		}
	}
}

func TestTopics(t *testing.T) {
	const topic = "ward/v1/acme/pump-1/up/event"
	if got := presence.Topic("acme", "pump-1", presence.Event); got != topic {
		t.Errorf("topic %q", got)
	}
	tenant, device, k, err := presence.ParseTopic(topic)
	if err != nil || tenant != "acme" || device != "pump-1" || k != presence.Event {
		t.Errorf("%q %q %q %v", tenant, device, k, err)
	}
	for name, ok := range map[string]bool{"pump-1": true, "": false, "..": false, "a/b": false, "a+": false, strings.Repeat("a", 65): false} {
		if presence.CheckNames("acme", name) == nil != ok || presence.CheckNames(name, "pump-1") == nil != ok {
			t.Errorf("name %q: want %t", name, ok)
		}
	}
	for _, bad := range []string{
		"", "ward/v1", "ward/v1/acme/pump-1", "ward/v1/acme/pump-1/up/other", "ward/v2/acme/pump-1/up/event",
		"ward/v1/+/pump-1/up/event", "ward/v1/acme//up/event", "ward/v1/acme/pump 1/up/event", "x/ward/v1/acme/pump-1/up/event",
		"ward/v1/" + strings.Repeat("a", 65) + "/pump-1/up/event",
	} {
		if _, _, _, err := presence.ParseTopic(bad); err == nil {
			t.Errorf("topic %q was read", bad)
		}
	}
}

func TestShed(t *testing.T) {
	s := presence.Shed{Epoch: 1, Sequence: 9, Hash: chain.Next([]byte("x"))}
	b, err := presence.EncodeShed(s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := presence.ParseShed(b); err != nil || got != s {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "{}", `{"epoch":1,"sequence":9}`, strings.Replace(string(b), "9", "0", 1)} {
		if got, err := presence.ParseShed([]byte(bad)); err == nil {
			t.Errorf("%s: read %+v", bad, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(goldenBirth))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := presence.Parse(b)
		if err != nil {
			return
		}
		again, err := presence.Encode(s)
		if err != nil {
			return // escaping can make a text longer than it was
		}
		if back, err := presence.Parse(again); err != nil || back.Session != s.Session || back.Device != s.Device {
			t.Errorf("%s: read as %+v, %v", again, back, err)
		}
	})
}
