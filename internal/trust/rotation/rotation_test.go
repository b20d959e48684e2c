package rotation_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
)

var (
	update = flag.Bool("update", false, "rewrite the golden rotation of docs/contract")
	issued = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKeys(t testing.TB, n int) []crypto.Signer {
	t.Helper()
	keys := make([]crypto.Signer, n)
	for i := range keys {
		keys[i] = newKey(t)
	}
	return keys
}

// fixed are Ed25519 keys that are the same in every run, so that an envelope is.
func fixed(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
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

func id(t testing.TB, key crypto.Signer) string {
	t.Helper()
	id, err := dsse.KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func sign(t testing.TB, serial int, from, to crypto.Signer) []byte {
	t.Helper()
	b, err := rotation.Sign(rotation.Receipt, serial, from, to.Public(), issued)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Verifies: SR-068
func TestRoundTrip(t *testing.T) {
	for _, old := range []crypto.Signer{newKey(t), fixed(1)} {
		for _, heir := range []crypto.Signer{newKey(t), fixed(2)} {
			for _, use := range []rotation.Use{rotation.Receipt, rotation.Challenge} {
				envelope, err := rotation.Sign(use, 7, old, heir.Public(), issued)
				if err != nil {
					t.Fatal(err)
				}
				if !rotation.IsRotation(envelope) || len(envelope) > rotation.MaxSize {
					t.Errorf("%d bytes are no rotation", len(envelope))
				}
				v, err := rotation.Verify(envelope, ring(t, newKey(t), old))
				if err != nil {
					t.Fatal(err)
				}
				r := v.Rotation()
				if r.Use != use || r.Serial != 7 || r.From != id(t, old) || v.To() != id(t, heir) || !r.Issued.Equal(issued) {
					t.Errorf("read %+v to %s", r, v.To())
				}
				r.To[0] ^= 1
				if bytes.Equal(r.To, v.Rotation().To) {
					t.Error("what was verified can be changed")
				}
			}
		}
	}
}

// The golden rotation of docs/contract is what is signed, payload and envelope
// byte for byte, and both keep the schema.
func TestContract(t *testing.T) {
	envelope := sign(t, 1, fixed(1), fixed(2))
	var e struct{ Payload []byte }
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	for file, b := range map[string][]byte{"key-rotation-payload": e.Payload, "key-rotation": envelope} {
		golden := filepath.Join("../../../docs/contract", file+".json")
		b = bytes.TrimSpace(b)
		if *update {
			if err := os.WriteFile(golden, append(bytes.Clone(b), '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, bytes.TrimSpace(want)) {
			t.Errorf("%s is written as\n%s\nand the contract says\n%s", file, b, want)
		}
		location := "../../../docs/schema/key-rotation.v1.schema.json"
		if file == "key-rotation" {
			location += "#/$defs/envelope"
		}
		schema, err := compiler.Compile(location)
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
			t.Errorf("%s: %v", file, err)
		}
		if err := check([]byte(strings.Replace(string(b), "{", `{"reboot":true,`, 1))); err == nil {
			t.Errorf("the schema of %s is open", file)
		}
	}
	golden, err := os.ReadFile("../../../docs/contract/key-rotation.json")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := rotation.Verify(golden, ring(t, fixed(1))); err != nil || v.To() != id(t, fixed(2)) {
		t.Errorf("the golden rotation leads to %v: %v", v, err)
	}
}

// Verifies: SR-068
func TestRefused(t *testing.T) {
	old, heir := newKey(t), newKey(t)
	envelope := sign(t, 1, old, heir)
	var e struct{ Payload []byte }
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	text := string(e.Payload)
	der := func(public crypto.PublicKey) string {
		b, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(payload string) []byte {
		b, err := dsse.Sign(rotation.PayloadType, []byte(payload), old)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	replace := func(from, to string) []byte {
		if !strings.Contains(text, from) {
			t.Fatalf("no %s in %s", from, text)
		}
		return raw(strings.Replace(text, from, to, 1))
	}
	other, err := dsse.Sign("application/vnd.ward.receipt.v1+json", e.Payload, old)
	if err != nil {
		t.Fatal(err)
	}
	byHeir, err := dsse.Sign(rotation.PayloadType, e.Payload, heir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		envelope []byte
		keys     *dsse.Keyring
		want     error
	}{
		{"another key", envelope, ring(t, newKey(t)), dsse.ErrSignature},
		{"no key", envelope, nil, dsse.ErrSignature},
		{"signed by the new key only", byHeir, ring(t, old, heir), dsse.ErrSignature},
		{"empty", nil, ring(t, old), dsse.ErrMalformed},
		{"cut", envelope[:100], ring(t, old), dsse.ErrMalformed},
		{"too large", append(bytes.Clone(envelope), bytes.Repeat([]byte(" "), rotation.MaxSize)...), ring(t, old), dsse.ErrMalformed},
		{"another payload type", other, ring(t, old), dsse.ErrPayloadType},
		{"unknown field", replace("{", `{"until":1,`), ring(t, old), nil},
		{"a field twice", replace("{", `{"serial":2,`), ring(t, old), nil},
		{"another use", replace(`"use":"receipt"`, `"use":"release"`), ring(t, old), nil},
		{"no use", replace(`"use":"receipt",`, ""), ring(t, old), nil},
		{"serial 0", replace(`"serial":1`, `"serial":0`), ring(t, old), nil},
		{"a negative serial", replace(`"serial":1`, `"serial":-1`), ring(t, old), nil},
		{"a serial that no reader holds", replace(`"serial":1`, `"serial":9007199254740993`), ring(t, old), nil},
		{"an id in capitals", replace(id(t, old), strings.ToUpper(id(t, old))), ring(t, old), nil},
		{"a short id", replace(id(t, old), id(t, old)[:63]), ring(t, old), nil},
		{"another old key than the one that signed", replace(id(t, old), id(t, newKey(t))), ring(t, old), dsse.ErrSignature},
		{"to itself", replace(der(heir.Public()), der(old.Public())), ring(t, old), nil},
		{"to a key of another curve", replace(der(heir.Public()), der(p384.Public())), ring(t, old), nil},
		{"to no key", replace(der(heir.Public()), ""), ring(t, old), nil},
		{"to a key and more", replace(der(heir.Public()), strings.Replace(der(heir.Public()), "=", "A", 1)), ring(t, old), nil},
		{"to very much", replace(der(heir.Public()), strings.Repeat("AAAA", 100)), ring(t, old), nil},
		{"no time", replace(`"issued":"2026-03-01T12:00:00Z"`, `"issued":"0001-01-01T00:00:00Z"`), ring(t, old), nil},
	} {
		v, err := rotation.Verify(c.envelope, c.keys)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if v != nil {
			t.Errorf("%s: something was returned", c.name)
		}
		chain := rotation.NewChain(rotation.Receipt, c.keys)
		if next, _, err := chain.Next(c.envelope); err == nil || next != nil {
			t.Errorf("%s: followed", c.name)
		}
	}
	for name, err := range map[string]error{
		"to itself":    second(rotation.Sign(rotation.Receipt, 1, old, old.Public(), issued)),
		"serial 0":     second(rotation.Sign(rotation.Receipt, 0, old, heir.Public(), issued)),
		"unknown use":  second(rotation.Sign("release", 1, old, heir.Public(), issued)),
		"other curve":  second(rotation.Sign(rotation.Receipt, 1, old, p384.Public(), issued)),
		"by the other": second(rotation.Sign(rotation.Receipt, 1, p384, heir.Public(), issued)),
		"no time":      second(rotation.Sign(rotation.Receipt, 1, old, heir.Public(), time.Time{})),
	} {
		if err == nil {
			t.Errorf("%s: it was signed", name)
		}
	}
}

func second(_ []byte, err error) error { return err }

func FuzzVerify(f *testing.F) {
	envelope := sign(f, 1, fixed(1), fixed(2))
	f.Add(envelope)
	f.Add([]byte(fmt.Sprintf(`{"payloadType":%q,"payload":"e30=","signatures":[]}`, rotation.PayloadType)))
	keys := ring(f, fixed(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := rotation.Verify(b, keys)
		if err == nil && (v.Rotation().Serial != 1 || v.To() != id(t, fixed(2)) || !rotation.IsRotation(b)) {
			t.Errorf("verified what was not signed: %s", v.Report())
		}
		chain := rotation.NewChain(rotation.Receipt, keys)
		next, _, nextErr := chain.Next(b)
		if (err == nil) != (nextErr == nil) || nextErr == nil && bytes.Count(next.Lines(), []byte("\n")) != 1 {
			t.Errorf("verified: %v, followed: %v", err, nextErr)
		}
		var l rotation.Line
		if l.Add(rotation.Receipt, b) == nil && l.Len() != 1 {
			t.Error("a line without what was added")
		}
	})
}
