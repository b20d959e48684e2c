package receipt_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/receipt"
)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ring(t testing.TB, keys ...crypto.Signer) *dsse.Keyring {
	t.Helper()
	var publics []crypto.PublicKey
	for _, k := range keys {
		publics = append(publics, k.Public())
	}
	r, err := dsse.NewKeyring(publics...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var good = receipt.Receipt{
	Tenant: "acme", Device: "pump-1", Epoch: 2, Sequence: 41, Head: chain.Next([]byte("record")),
	Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
}

// Verifies: SR-010
func TestRoundTrip(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{newKey(t), edKey} {
		envelope, err := receipt.Sign(good, key)
		if err != nil {
			t.Fatal(err)
		}
		v, err := receipt.Verify(envelope, ring(t, newKey(t), key), "acme", "pump-1")
		if err != nil {
			t.Fatal(err)
		}
		if v.Receipt() != good || len(v.Signers()) != 1 {
			t.Errorf("read %+v by %v", v.Receipt(), v.Signers())
		}
	}
}

// The golden payload of docs/contract is what is signed, and keeps its schema.
func TestContract(t *testing.T) {
	b, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("../../../docs/contract/receipt-payload.json")
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.TrimSpace(golden); !bytes.Equal(b, want) {
		t.Errorf("a receipt is written as\n%s\nand the contract says\n%s", b, want)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../../../docs/schema/receipt.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Error(err)
	}
}

// Verifies: SR-010
func TestRefused(t *testing.T) {
	key := newKey(t)
	sign := func(r receipt.Receipt) []byte {
		b, err := receipt.Sign(r, key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw := func(payloadType, payload string) []byte {
		b, err := dsse.Sign(payloadType, []byte(payload), key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	other := good
	other.Device = "pump-2"
	for _, c := range []struct {
		name     string
		envelope []byte
		keys     *dsse.Keyring
		want     error
	}{
		{"another key", sign(good), ring(t, newKey(t)), dsse.ErrSignature},
		{"no key", sign(good), nil, dsse.ErrSignature},
		{"empty", nil, ring(t, key), dsse.ErrMalformed},
		{"cut", sign(good)[:100], ring(t, key), dsse.ErrMalformed},
		{"too large", []byte(strings.Repeat(" ", receipt.MaxSize+1)), ring(t, key), dsse.ErrMalformed},
		{"another device", sign(other), ring(t, key), receipt.ErrForeign},
		{"another payload type", raw("application/vnd.ward.release.v1+json", string(text)), ring(t, key), dsse.ErrPayloadType},
		{"unknown field", raw(receipt.PayloadType, strings.Replace(string(text), "{", `{"until":1,`, 1)), ring(t, key), nil},
		{"sequence 0", raw(receipt.PayloadType, strings.Replace(string(text), "41", "0", 1)), ring(t, key), nil},
		{"no head", raw(receipt.PayloadType, strings.Replace(string(text), good.Head.String(), strings.Repeat("0", 64), 1)), ring(t, key), nil},
	} {
		v, err := receipt.Verify(c.envelope, c.keys, "acme", "pump-1")
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if v.Receipt() != (receipt.Receipt{}) {
			t.Errorf("%s: something was returned", c.name)
		}
	}
	for _, r := range []receipt.Receipt{{}, {Tenant: "acme", Device: "pump-1", Epoch: 1, Sequence: 1, Time: good.Time}} {
		if _, err := receipt.Sign(r, key); err == nil {
			t.Errorf("%+v was signed", r)
		}
	}
}

func FuzzVerify(f *testing.F) {
	key := newKey(f)
	envelope, err := receipt.Sign(good, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope)
	keys := ring(f, key)
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := receipt.Verify(b, keys, "acme", "pump-1"); err == nil && v.Receipt() != good {
			t.Errorf("verified what was not signed: %+v", v.Receipt())
		}
	})
}
