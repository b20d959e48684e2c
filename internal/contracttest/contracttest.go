// Package contracttest checks in tests that what goes over MQTT keeps the
// contract that backend teams are given: docs/asyncapi.yaml, the JSON Schemas
// (2020-12) in docs/schema and the CBOR of docs/schema/evidence.v2.cddl. Fakes of
// brokers, readers behind real ones and tests of every role hand it each message
// that they see. It is stricter than a reader: readers ignore what they do not
// know, but nothing may be sent that the schemas do not describe.
package contracttest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"ward/internal/trust/event"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
)

// Root is the module's folder, found from where the test runs.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if b, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(b, []byte("module ward\n")) {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find docs/schema: the test does not run inside of the module")
		}
		dir = up
	}
}

// schemas are all of docs/schema, compiled once.
type schemas struct {
	reader    map[string]*jsonschema.Schema // by name, "event"; as published
	sender    map[string]*jsonschema.Schema // the same, closed against what is not described
	envelopes map[string]*jsonschema.Schema // by name: the form of the envelope, where there is one
	payloads  map[string]string             // name by payload type of an envelope
	carried   map[string][]string           // names by kind of message, as docs/asyncapi.yaml says
	types     map[string]bool               // of events: those that the schema names
}

var load = sync.OnceValues(func() (*schemas, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	carried, err := channels(filepath.Join(root, "docs/asyncapi.yaml"))
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "docs/schema/*.v1.schema.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("find docs/schema: %d files, %w", len(files), err)
	}
	s := &schemas{
		reader: map[string]*jsonschema.Schema{}, sender: map[string]*jsonschema.Schema{},
		envelopes: map[string]*jsonschema.Schema{}, payloads: map[string]string{}, carried: carried, types: map[string]bool{},
	}
	reader, sender := jsonschema.NewCompiler(), jsonschema.NewCompiler()
	reader.AssertFormat()
	sender.AssertFormat()
	for _, file := range files {
		open, err := read(file)
		if err != nil {
			return nil, err
		}
		closed, err := read(file)
		if err != nil {
			return nil, err
		}
		closeObjects(closed)
		name := nameOf(file)
		if err := errors.Join(reader.AddResource(urn(name), open), sender.AddResource(urn(name), closed)); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if kind, ok := lookup(open, "$defs", "envelope", "properties", "payloadType", "const").(string); ok {
			s.payloads[kind] = name
		}
		if examples, ok := lookup(open, "properties", "type", "examples").([]any); ok && name == "event" {
			for _, e := range examples {
				s.types[fmt.Sprint(e)] = true
			}
		}
	}
	for _, file := range files {
		name := nameOf(file)
		if s.reader[name], err = reader.Compile(urn(name)); err != nil {
			return nil, err
		}
		if s.sender[name], err = sender.Compile(urn(name)); err != nil {
			return nil, err
		}
	}
	for _, name := range s.payloads {
		if s.envelopes[name], err = reader.Compile(urn(name) + "#/$defs/envelope"); err != nil {
			return nil, err
		}
	}
	return s, nil
})

// channels reads which schemas each kind of message may have.
func channels(file string) (map[string][]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Channels map[string]struct {
			Address  string
			Messages map[string]any
		}
		Components struct {
			Messages map[string]struct {
				Payload struct {
					Schema map[string]string
				}
			}
		}
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out := make(map[string][]string)
	for _, c := range doc.Channels {
		kind := strings.TrimPrefix(c.Address, presence.Prefix+"/{tenant}/{device}/")
		for m := range c.Messages {
			schema, _, _ := strings.Cut(doc.Components.Messages[m].Payload.Schema["$ref"], "#")
			out[kind] = append(out[kind], nameOf(schema))
		}
	}
	return out, nil
}

func nameOf(file string) string {
	return strings.TrimSuffix(filepath.Base(file), ".v1.schema.json")
}

func urn(name string) string { return "urn:ward:schema:" + name + ":v1" }

func read(file string) (any, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	v, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return v, nil
}

// lookup follows keys of objects; nil where there is none.
func lookup(v any, keys ...string) any {
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// closeObjects forbids, in every schema of an object that lists its properties,
// others than these.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, lists := v["properties"].(map[string]any)
		_, says := v["additionalProperties"]
		if v["type"] == "object" && lists && !says {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			closeObjects(inner)
		}
	case []any:
		for _, inner := range v {
			closeObjects(inner)
		}
	}
}

// Check says what is wrong with a message on a topic: its topic, its size, its
// schema, something in it that the schema does not describe, a device that is not
// the topic's, or that our own parser refuses it. Whether a signature is the
// fleet's is not its business, nor what document a part of evidence is of.
func Check(topic string, payload []byte) error {
	tenant, device, kind, err := presence.ParseTopic(topic)
	if err != nil {
		return err
	}
	if len(payload) > presence.MaxPayload {
		return fmt.Errorf("%s: %d bytes, at most %d", kind, len(payload), presence.MaxPayload)
	}
	s, err := load()
	if err != nil {
		return err
	}
	if err := s.check(tenant, device, kind, payload); err != nil {
		return fmt.Errorf("%s: %w: %.400q", kind, err, payload)
	}
	return nil
}

func (s *schemas) check(tenant, device string, kind presence.Kind, payload []byte) error {
	way, name, _ := strings.Cut(string(kind), "/")
	switch {
	case kind == presence.Evidence:
		_, err := evidence.ParsePart(payload)
		return err
	case way == "down":
		return s.checkEnvelope(tenant, device, kind, payload)
	}
	if err := validate(s.sender[name], name, payload); err != nil {
		return err
	}
	switch kind {
	case presence.Event:
		e, err := event.Parse(payload)
		if err == nil && !s.types[e.Type] {
			err = fmt.Errorf("type %s is not among those that the schema names", e.Type)
		}
		return errors.Join(err, same(tenant, device, e.Source.Tenant, e.Source.Device), checkFinding(e.Event))
	case presence.State:
		st, err := presence.Parse(payload)
		return errors.Join(err, same(tenant, device, st.Tenant, st.Device))
	case presence.ShedEvent:
		_, err := presence.ParseShed(payload)
		return err
	}
	return nil
}

// checkEnvelope checks what comes down: the envelope's form, that its payload is
// of a type that belongs to the topic, and the payload's schema.
func (s *schemas) checkEnvelope(tenant, device string, kind presence.Kind, payload []byte) error {
	var e struct{ PayloadType, Payload string }
	if err := json.Unmarshal(payload, &e); err != nil {
		return err
	}
	of, ok := s.payloads[e.PayloadType]
	if !ok || !slices.Contains(s.carried[string(kind)], of) {
		return fmt.Errorf("payload type %q does not belong on %s", e.PayloadType, kind)
	}
	if err := validate(s.envelopes[of], of, payload); err != nil {
		return err
	}
	b, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		return err
	}
	var says struct {
		Tenant, Device *string
		Use            *string // of keys: receipt, challenge
	}
	err = errors.Join(validate(s.sender[of], of, b), json.Unmarshal(b, &says))
	if err == nil && says.Tenant != nil && says.Device != nil {
		err = same(tenant, device, *says.Tenant, *says.Device)
	}
	if err == nil && says.Use != nil && presence.Kind("down/"+*says.Use) != kind {
		err = fmt.Errorf("of %s keys, on %s", *says.Use, kind)
	}
	return err
}

// Recorded panics where an event that a role records would break the contract once
// it is sent, or where its finding is not one of the catalogue or of another kind
// than its type says. Fakes of the journal call it; they have no testing.TB.
func Recorded(e event.Event) {
	stamp := event.Stamp{Source: event.Source{Tenant: "lab", Device: "pump-1"}, Epoch: 1, Sequence: 1, Boot: "boot"}
	b, err := event.Encode(e, stamp)
	if err == nil {
		err = Check(presence.Topic("lab", "pump-1", presence.Event), b)
	}
	if err != nil {
		panic("contracttest: " + err.Error())
	}
}

// checkFinding says whether an event's finding is of the catalogue, and of the
// kind and severity that the event says.
func checkFinding(e event.Event) error {
	if e.Finding == nil {
		return nil
	}
	d, ok := finding.Lookup(e.Finding.Code)
	switch incident := e.Type == event.FindingIncident; {
	case !ok:
		return fmt.Errorf("finding %s is not in the catalogue", e.Finding.Code)
	case incident != (d.Kind == finding.Incident):
		return fmt.Errorf("%s is of kind %s, in an event of type %s", d.Code, d.Kind, e.Type)
	case e.Severity != e.Finding.Severity || e.Severity < d.Severity: // graver where the circumstances are
		return fmt.Errorf("%s is %s in the catalogue, %s as a finding and %s as an event", d.Code, d.Severity, e.Finding.Severity, e.Severity)
	}
	return nil
}

// Document says what is wrong with a document of a schema, "verdict", that does
// not go over MQTT by itself.
func Document(name string, document []byte) error {
	s, err := load()
	if err != nil {
		return err
	}
	return validate(s.sender[name], name, document)
}

// Envelope says what is wrong with the form of a signed envelope of a schema,
// "farewell", that does not go over MQTT.
func Envelope(name string, envelope []byte) error {
	s, err := load()
	if err != nil {
		return err
	}
	return validate(s.envelopes[name], name, envelope)
}

func validate(schema *jsonschema.Schema, name string, b []byte) error {
	if schema == nil {
		return fmt.Errorf("there is no schema docs/schema/%s.v1.schema.json", name)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

func same(tenant, device, tenantIn, deviceIn string) error {
	if tenant != tenantIn || device != deviceIn {
		return fmt.Errorf("the topic is of %s of %s, and the message of %s of %s", device, tenant, deviceIn, tenantIn)
	}
	return nil
}
