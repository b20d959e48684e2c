package contracttest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"ward/internal/contracttest"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
)

// constants are the texts of a package's constants that begin with a prefix.
func constants(t *testing.T, pkg, prefix string) []string {
	t.Helper()
	root, err := contracttest.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "internal/trust", pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var out []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				for _, v := range spec.(*ast.ValueSpec).Values {
					lit, ok := v.(*ast.BasicLit)
					if !ok || lit.Kind != token.STRING {
						continue
					}
					if text, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(text, prefix) {
						out = append(out, text)
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// examples are the files of docs/contract by the way they are checked.
func examples(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(contract(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// topicOf is where an example goes.
func topicOf(t *testing.T, name string, b []byte) string {
	t.Helper()
	kind, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(name, ".json"), ".cbor"), "-")
	tenant, device := "acme", "pump-1"
	if kind == "event" {
		e, err := event.Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tenant, device = e.Source.Tenant, e.Source.Device
	}
	way := "up/"
	switch kind {
	case "receipt", "challenge":
		way = "down/"
	case "key": // a rotation of the receipt key
		way, kind = "down/", "receipt"
	}
	return presence.Topic(tenant, device, presence.Kind(way+kind))
}

// Every example keeps its schema, describes nothing that it does not, and is read
// by our own parsers; every kind of message and every type of event has one.
//
// Verifies: SR-063
func TestExamples(t *testing.T) {
	types, kinds := map[string]bool{}, map[presence.Kind]bool{}
	for _, name := range examples(t) {
		b := example(t, name)
		if strings.HasSuffix(name, ".json") {
			b = oneLine(t, name)
		}
		kind, _, _ := strings.Cut(strings.TrimSuffix(name, ".json"), "-")
		var err error
		switch {
		case name == sums || filepath.Ext(name) == ".md" || filepath.Ext(name) == ".pem" || filepath.Ext(name) == ".diag", name == "evidence.cbor":
			continue // beside the examples, or checked with them
		case strings.HasSuffix(name, "-payload.json"), kind == "verdict":
			if of, signed := strings.CutSuffix(name, "-payload.json"); signed {
				kind = of
			}
			err = contracttest.Document(kind, b)
		case kind == "farewell":
			err = contracttest.Envelope(kind, b)
		default:
			topic := topicOf(t, name, b)
			err = contracttest.Check(topic, b)
			if _, _, k, perr := presence.ParseTopic(topic); perr == nil {
				kinds[k] = true
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if kind == "event" {
			if e, err := event.Parse(b); err == nil {
				types[e.Type] = true
			}
		}
	}
	for _, c := range constants(t, "event", "ward.") {
		if !types[c] {
			t.Errorf("%s has no example in docs/contract", c)
		}
	}
	for _, way := range []string{"up/", "down/"} {
		for _, k := range constants(t, "presence", way) {
			if !kinds[presence.Kind(k)] {
				t.Errorf("%s has no example in docs/contract", k)
			}
		}
	}
}

// The schema names the types of events that the code has, and no others.
func TestTypesOfEvents(t *testing.T) {
	var named []string
	for _, e := range schemaOf(t, "event")["properties"].(map[string]any)["type"].(map[string]any)["examples"].([]any) {
		named = append(named, e.(string))
	}
	slices.Sort(named)
	if code := constants(t, "event", "ward."); !slices.Equal(named, code) {
		t.Errorf("the schema names %v, the code has %v", named, code)
	}
}

func schemaOf(t *testing.T, name string) map[string]any {
	t.Helper()
	f, err := os.Open(contract(t, "../schema/"+name+".v1.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

// docs/asyncapi.yaml has a channel for every kind of message and no other, a
// direction for each, and names schemas that exist.
//
// Verifies: SR-063
func TestAsyncAPI(t *testing.T) {
	type reference struct {
		Ref string `yaml:"$ref"`
	}
	var doc struct {
		AsyncAPI string
		Channels map[string]struct {
			Address  string
			Messages map[string]reference
		}
		Operations map[string]struct {
			Action  string
			Channel reference
		}
		Components struct {
			Messages map[string]struct {
				ContentType string `yaml:"contentType"`
				Payload     struct{ Schema reference }
			}
		}
	}
	text, err := os.ReadFile(contract(t, "../asyncapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	kinds := append(constants(t, "presence", "down/"), constants(t, "presence", "up/")...)
	var channels []string
	for name, c := range doc.Channels {
		kind, ok := strings.CutPrefix(c.Address, "ward/v1/{tenant}/{device}/")
		channels = append(channels, kind)
		action := map[bool]string{true: "send", false: "receive"}[strings.HasPrefix(kind, "up/")]
		operations := 0
		for _, o := range doc.Operations {
			if o.Channel.Ref == "#/channels/"+name {
				operations++
				if o.Action != action {
					t.Errorf("channel %s: a device does %q, want %q", name, o.Action, action)
				}
			}
		}
		if !ok || operations != 1 || len(c.Messages) == 0 {
			t.Errorf("channel %s at %q has %d operations and %d messages", name, c.Address, operations, len(c.Messages))
		}
		for m, r := range c.Messages {
			if _, ok := doc.Components.Messages[m]; !ok || r.Ref != "#/components/messages/"+m {
				t.Errorf("channel %s: message %s is not there", name, r.Ref)
			}
		}
	}
	slices.Sort(channels)
	if !slices.Equal(channels, kinds) {
		t.Errorf("the channels are %v, the code has %v", channels, kinds)
	}
	for name, m := range doc.Components.Messages {
		file, _, _ := strings.Cut(m.Payload.Schema.Ref, "#")
		if file == "" || m.ContentType == "" {
			t.Errorf("message %s has no schema or no content type", name)
			continue
		}
		if _, err := os.Stat(contract(t, "../"+file)); err != nil {
			t.Errorf("message %s: %v", name, err)
		}
	}
}

// Check bites: a message with one thing wrong is refused. What a reader must
// ignore, a sender may not send.
//
// Verifies: SR-063
func TestCheckBites(t *testing.T) {
	for _, row := range []struct{ name, file, old, new string }{
		{"an unknown key of the event", "event-link-connected.json", `{"specversion"`, `{"later":1,"specversion"`},
		{"an unknown key of its data", "event-link-connected.json", `"data":{`, `"data":{"more":1,`},
		{"an unknown key of a report", "event-link-connected.json", `{"broker"`, `{"brocker":"x","broker"`},
		{"an unknown key of a finding", "event-finding-raised.json", `{"code"`, `{"patient":"x","code"`},
		{"an unknown key deep in a report", "event-boot-verdict-affirming.json", `"state":"matches"`, `"state":"matches","serial":1`},
		{"a report without what it must have", "event-daemon-started.json", `"session":7,`, ``},
		{"a number as text", "event-daemon-started.json", `"session":7`, `"session":"7"`},
		{"an acknowledgement by nobody", "event-finding-acknowledged.json", `"by":"service"`, `"by":7`},
		{"a type that the schema does not name", "event-daemon-stopped.json", `ward.daemon.stopped`, `ward.daemon.paused`},
		{"a severity that does not exist", "event-finding-raised.json", `"severity":"critical","datacontenttype"`, `"severity":"fatal","datacontenttype"`},
		{"a finding of no catalogue", "event-finding-raised.json", `boot.pcr-differs`, `boot.pcr-nonsense`},
		{"a condition as an incident", "event-finding-raised.json", `ward.finding.raised`, `ward.finding.incident`},
		{"an incident as a condition", "event-finding-incident.json", `ward.finding.incident`, `ward.finding.raised`},
		{"another severity than the finding's", "event-finding-raised.json", `"severity":"critical","datacontenttype"`, `"severity":"low","datacontenttype"`},
		{"no place in the chain", "event-daemon-started.json", `"sequence":42,`, ``},
		{"an id of another record", "event-daemon-started.json", `/1/42"`, `/1/43"`},
		{"a time that is none", "event-daemon-started.json", `2026-11-24T01:02:03.004Z`, `yesterday`},
		{"a birth without a time", "status-online.json", `,"time":"2026-03-01T12:00:00.000000005Z"`, ``},
		{"a status of another device", "status-online.json", `"device":"pump-1"`, `"device":"pump-2"`},
		{"an unknown key of a status", "status-offline.json", `{"state"`, `{"ward":"7B","state"`},
		{"a short hash", "shed.json", `"hash":"13`, `"hash":"`},
		{"a receipt of a challenge's type", "receipt.json", `ward.receipt.v1`, `ward.challenge.v1`},
		{"a receipt without a signature", "receipt.json", `"sig":"`, `"sign":"`},
		{"a receipt with another payload", "receipt.json", `"payload":"ey`, `"payload":"fy`},
		{"a rotation of the other topic's keys", "key-rotation.json", "", ""},
		{"a challenge of no known type", "challenge.json", `challenge.v1`, `challenge.v2`},
		{"no JSON", "shed.json", `}`, ``},
		{"a part of another size", "evidence-part.cbor", "example document", "example documen"},
	} {
		b := example(t, row.file)
		if strings.HasSuffix(row.file, ".json") {
			b = oneLine(t, row.file)
		}
		topic := topicOf(t, row.file, b)
		if row.old == "" {
			if err := contracttest.Check(strings.Replace(topic, "/down/receipt", "/down/challenge", 1), b); err == nil {
				t.Errorf("%s passes", row.name)
			}
			continue
		}
		bad := strings.Replace(string(b), row.old, row.new, 1)
		if bad == string(b) {
			t.Fatalf("%s: %q is not in %s", row.name, row.old, b)
		}
		if err := contracttest.Check(topic, []byte(bad)); err == nil {
			t.Errorf("%s passes: %s", row.name, bad)
		}
	}
	good := oneLine(t, "status-online.json")
	for name, topic := range map[string]string{
		"another device's topic": presence.Topic("acme", "pump-2", presence.State),
		"another kind's topic":   presence.Topic("acme", "pump-1", presence.ShedEvent),
		"no topic of ours":       "ward/v2/acme/pump-1/up/status",
	} {
		if err := contracttest.Check(topic, good); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if err := contracttest.Check(presence.Topic("acme", "pump-1", presence.State), make([]byte, presence.MaxPayload+1)); err == nil {
		t.Error("a message over the bound passes")
	}
}

// What is added within version 1 does not break readers: an unknown key and an
// unknown type of event keep the published schema and our own parser.
//
// Verifies: SR-063
func TestReadersIgnoreWhatTheyDoNotKnow(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile(contract(t, "../schema/event.v1.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a key":                {`{"specversion"`, `{"later":1,"specversion"`},
		"a key of a report":    {`{"session"`, `{"later":{"a":[1]},"session"`},
		"a type":               {`ward.daemon.stopped`, `ward.daemon.paused`},
		"a type with no order": {`ward.daemon.stopped`, `ward.weather.changed`},
	} {
		text := strings.Replace(string(oneLine(t, "event-daemon-stopped.json")), change[0], change[1], 1)
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s that is unknown breaks the schema: %v", name, err)
		}
		if _, err := event.Parse([]byte(text)); err != nil {
			t.Errorf("%s that is unknown is not read: %v", name, err)
		}
	}
}
