package receipt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"ward/internal/format/dsse"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/receipt"
)

var (
	issued   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	question = receipt.Challenge{
		Tenant: "acme", Device: "pump-1", Nonce: pcr.SHA256.Sum([]byte("nonce")), Issued: issued, Expires: issued.Add(time.Minute),
		Boot: "2a1b3c4d-0000-4000-8000-000000000001", EventLog: pcr.SHA256.Sum([]byte("log")),
		List: ima.Checkpoint{Entries: 412, PCR: pcr.SHA256.Sum([]byte("list"))},
	}
)

// A challenge comes out as it went in, whole or with nothing held.
//
// Verifies: SR-030
func TestChallengeRoundTrip(t *testing.T) {
	key := newKey(t)
	bare := receipt.Challenge{Tenant: "acme", Device: "pump-1", Nonce: question.Nonce, Issued: issued, Expires: issued.Add(receipt.MaxLifetime)}
	for _, want := range []receipt.Challenge{question, bare} {
		envelope, err := receipt.SignChallenge(want, key)
		if err != nil {
			t.Fatal(err)
		}
		v, err := receipt.VerifyChallenge(envelope, ring(t, newKey(t), key), "acme", "pump-1")
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Challenge(); !reflect.DeepEqual(got, want) || len(v.Signers()) != 1 {
			t.Errorf("read %+v by %v, want %+v", got, v.Signers(), want)
		}
		v.Challenge().Nonce[0] ^= 1
		if !reflect.DeepEqual(v.Challenge(), want) {
			t.Error("what was verified can be changed")
		}
	}
}

// The golden payload of docs/contract is what is signed, and keeps its schema.
func TestChallengeContract(t *testing.T) {
	b, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("../../../docs/contract/challenge-payload.json")
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.TrimSpace(golden); !bytes.Equal(b, want) {
		t.Errorf("a challenge is written as\n%s\nand the contract says\n%s", b, want)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../../../docs/schema/challenge.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(b []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	if err := check(b); err != nil {
		t.Error(err)
	}
	bare, err := json.Marshal(receipt.Challenge{Tenant: "acme", Device: "pump-1", Nonce: question.Nonce, Issued: issued, Expires: issued.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if err := check(bare); err != nil {
		t.Error(err)
	}
	if err := check([]byte(strings.Replace(string(b), "{", `{"reboot":true,`, 1))); err == nil {
		t.Error("the schema is open")
	}
}

// Verifies: SR-030
func TestChallengeRefused(t *testing.T) {
	key := newKey(t)
	sign := func(change func(c *receipt.Challenge)) []byte {
		c := question
		change(&c)
		payload, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		b, err := dsse.Sign(receipt.ChallengeType, payload, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := receipt.SignChallenge(c, key); err == nil && c.Device == "pump-1" {
			t.Errorf("%+v was signed", c)
		}
		return b
	}
	envelope, err := receipt.SignChallenge(question, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(payloadType, payload string) []byte {
		b, err := dsse.Sign(payloadType, []byte(payload), key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name     string
		envelope []byte
		keys     *dsse.Keyring
		want     error
	}{
		{"another key", envelope, ring(t, newKey(t)), dsse.ErrSignature},
		{"no key", envelope, nil, dsse.ErrSignature},
		{"empty", nil, ring(t, key), dsse.ErrMalformed},
		{"cut", envelope[:100], ring(t, key), dsse.ErrMalformed},
		{"too large", []byte(strings.Repeat(" ", receipt.MaxSize+1)), ring(t, key), dsse.ErrMalformed},
		{"a receipt", raw(receipt.PayloadType, string(text)), ring(t, key), dsse.ErrPayloadType},
		{"another device", sign(func(c *receipt.Challenge) { c.Device = "pump-2" }), ring(t, key), receipt.ErrForeign},
		{"unknown field", raw(receipt.ChallengeType, strings.Replace(string(text), "{", `{"reboot":true,`, 1)), ring(t, key), nil},
		{"no tenant", sign(func(c *receipt.Challenge) { c.Tenant = "" }), ring(t, key), nil},
		{"no nonce", sign(func(c *receipt.Challenge) { c.Nonce = nil }), ring(t, key), nil},
		{"short nonce", sign(func(c *receipt.Challenge) { c.Nonce = c.Nonce[:31] }), ring(t, key), nil},
		{"a nonce of zeros", sign(func(c *receipt.Challenge) { c.Nonce = make([]byte, 32) }), ring(t, key), nil},
		{"expires before it was issued", sign(func(c *receipt.Challenge) { c.Expires = c.Issued.Add(-time.Second) }), ring(t, key), nil},
		{"expires at once", sign(func(c *receipt.Challenge) { c.Expires = c.Issued }), ring(t, key), nil},
		{"good for more than a day", sign(func(c *receipt.Challenge) { c.Expires = c.Issued.Add(24*time.Hour + 1) }), ring(t, key), nil},
		{"never issued", sign(func(c *receipt.Challenge) { c.Issued = time.Time{} }), ring(t, key), nil},
		{"holds of no boot", sign(func(c *receipt.Challenge) { c.Boot = "" }), ring(t, key), nil},
		{"long boot id", sign(func(c *receipt.Challenge) { c.Boot = strings.Repeat("b", 65) }), ring(t, key), nil},
		{"short digest of the log", sign(func(c *receipt.Challenge) { c.EventLog = c.EventLog[:20] }), ring(t, key), nil},
		{"entries without a register", sign(func(c *receipt.Challenge) { c.List.PCR = nil }), ring(t, key), nil},
		{"a register without entries", sign(func(c *receipt.Challenge) { c.List.Entries = 0 }), ring(t, key), nil},
		{"fewer than no entries", sign(func(c *receipt.Challenge) { c.List.Entries = -1 }), ring(t, key), nil},
	} {
		v, err := receipt.VerifyChallenge(c.envelope, c.keys, "acme", "pump-1")
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if len(v.Challenge().Nonce) != 0 || v.Challenge().Device != "" {
			t.Errorf("%s: something was returned", c.name)
		}
	}
	if _, err := receipt.Verify(envelope, ring(t, key), "acme", "pump-1"); !errors.Is(err, dsse.ErrPayloadType) {
		t.Errorf("a challenge read as a receipt: %v", err)
	}
}

func FuzzVerifyChallenge(f *testing.F) {
	key := newKey(f)
	envelope, err := receipt.SignChallenge(question, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope)
	keys := ring(f, key)
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := receipt.VerifyChallenge(b, keys, "acme", "pump-1"); err == nil && !reflect.DeepEqual(v.Challenge(), question) {
			t.Errorf("verified what was not signed: %+v", v.Challenge())
		}
	})
}
