package dsse_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/dsse"
)

const testType = "application/vnd.ward.test+json"

func newECDSA(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newEd25519(t testing.TB) crypto.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicPEM(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func keyring(t testing.TB, signers ...crypto.Signer) *dsse.Keyring {
	t.Helper()
	var texts [][]byte
	for _, s := range signers {
		texts = append(texts, publicPEM(t, s.Public()))
	}
	k, err := dsse.ParseKeyring(texts...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, payload string, signers ...crypto.Signer) []byte {
	t.Helper()
	e, err := dsse.Sign(testType, []byte(payload), signers...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// edit changes an envelope as a JSON document.
func edit(t testing.TB, envelope []byte, change func(m map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(envelope, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The key, payload and signature of the specification's protocol.md, "Test
// Vectors". Its signature is raw r and s; Ward's are ASN.1.
func TestSpecificationVector(t *testing.T) {
	const payloadType = "http://example.com/HelloWorld"
	if got := string(dsse.PAE(payloadType, []byte("hello world"))); got != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Errorf("PAE = %q", got)
	}
	number := func(s string) *big.Int {
		n, ok := new(big.Int).SetString(s, 10)
		if !ok {
			t.Fatal(s)
		}
		return n
	}
	point := []byte{4} // uncompressed (SEC 1, section 2.3.3)
	point = append(point, number("46950820868899156662930047687818585632848591499744589407958293238635476079160").FillBytes(make([]byte, 32))...)
	point = append(point, number("5640078356564379163099075877009565129882514886557779369047442380624545832820").FillBytes(make([]byte, 32))...)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := dsse.NewKeyring(public)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		t.Fatal(err)
	}
	envelope := fmt.Sprintf(`{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": %q}]}`, base64.StdEncoding.EncodeToString(sig))
	payload, signers, err := keys.Open([]byte(envelope), payloadType, 1)
	if err != nil || string(payload) != "hello world" || len(signers) != 1 {
		t.Errorf("Open = %q, %q, %v", payload, signers, err)
	}
}

func TestPAEEmpty(t *testing.T) {
	if got := string(dsse.PAE("", nil)); got != "DSSEv1 0  0 " {
		t.Errorf("PAE = %q", got)
	}
}

// Verifies: SR-006
func TestThreshold(t *testing.T) {
	a, b, c, stranger := newECDSA(t), newECDSA(t), newEd25519(t), newECDSA(t)
	ring := keyring(t, a, b, c)
	ofA, ofAB, ofABC := sign(t, "x", a), sign(t, "x", a, b), sign(t, "x", c, a, b)
	again := func(m map[string]any) { // A's signature three times, under other key ids
		s := m["signatures"].([]any)[0].(map[string]any)
		m["signatures"] = []any{s, map[string]any{"sig": s["sig"]}, map[string]any{"keyid": "b", "sig": s["sig"]}}
	}
	secondSignature := func(m map[string]any) { // two different signatures of A
		var other map[string]any
		if err := json.Unmarshal(sign(t, "x", a), &other); err != nil {
			t.Fatal(err)
		}
		m["signatures"] = append(m["signatures"].([]any), other["signatures"].([]any)...)
	}
	swapIDs := func(m map[string]any) { // key ids are hints
		s := m["signatures"].([]any)
		x, y := s[0].(map[string]any), s[1].(map[string]any)
		x["keyid"], y["keyid"] = y["keyid"], x["keyid"]
	}
	for _, tt := range []struct {
		name      string
		ring      *dsse.Keyring
		envelope  []byte
		threshold int
		want      error
	}{
		{"one of one", ring, ofA, 1, nil},
		{"two of two", ring, ofAB, 2, nil},
		{"three kinds", ring, ofABC, 3, nil},
		{"more than needed", ring, ofABC, 1, nil},
		{"one of two", ring, ofA, 2, dsse.ErrSignature},
		{"same signature repeated", ring, edit(t, ofA, again), 2, dsse.ErrSignature},
		{"same key signs twice", ring, edit(t, ofA, secondSignature), 2, dsse.ErrSignature},
		{"key ids swapped", ring, edit(t, ofAB, swapIDs), 2, nil},
		{"key twice in the keyring", keyring(t, a, a), ofA, 2, dsse.ErrSignature},
		{"stranger", ring, sign(t, "x", stranger), 1, dsse.ErrSignature},
		{"stranger beside a known key", ring, sign(t, "x", stranger, a), 1, nil},
		{"stranger does not count", ring, sign(t, "x", stranger, a), 2, dsse.ErrSignature},
		{"stranger under a known key id", ring, edit(t, sign(t, "x", stranger), func(m map[string]any) {
			id, _ := dsse.KeyID(a.Public())
			m["signatures"].([]any)[0].(map[string]any)["keyid"] = id
		}), 1, dsse.ErrSignature},
		{"unsigned", ring, edit(t, ofA, func(m map[string]any) { m["signatures"] = []any{} }), 1, dsse.ErrSignature},
		{"no signatures key", ring, edit(t, ofA, func(m map[string]any) { delete(m, "signatures") }), 1, dsse.ErrSignature},
		{"payload changed", ring, edit(t, ofA, func(m map[string]any) { m["payload"] = "eQ==" }), 1, dsse.ErrSignature},
		{"type changed", ring, edit(t, ofA, func(m map[string]any) { m["payloadType"] = testType + "2" }), 1, dsse.ErrSignature},
		{"no keys", new(dsse.Keyring), ofA, 1, dsse.ErrSignature},
		{"nil keyring", nil, ofA, 1, dsse.ErrSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			payload, signers, err := tt.ring.Open(tt.envelope, testType, tt.threshold)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err != nil && (payload != nil || signers != nil) {
				t.Errorf("payload %q, signers %q beside an error", payload, signers)
			}
			if err == nil && (string(payload) != "x" || len(signers) < tt.threshold) {
				t.Errorf("payload %q, signers %q", payload, signers)
			}
		})
	}
	for _, threshold := range []int{0, -1} {
		if payload, _, err := ring.Open(ofA, testType, threshold); err == nil || payload != nil {
			t.Errorf("threshold %d: payload %q, error %v", threshold, payload, err)
		}
	}
}

// Verifies: SR-006
func TestPayloadTypeIsSigned(t *testing.T) {
	a := newECDSA(t)
	e, err := dsse.Sign("application/vnd.ward.other+json", []byte("x"), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := keyring(t, a).Open(e, testType, 1); !errors.Is(err, dsse.ErrPayloadType) {
		t.Errorf("error %v, want %v", err, dsse.ErrPayloadType)
	}
}

func TestSignersAreNamed(t *testing.T) {
	a, b, c := newECDSA(t), newEd25519(t), newECDSA(t)
	_, signers, err := keyring(t, a, b, c).Open(sign(t, "x", c, a), testType, 1)
	if err != nil {
		t.Fatal(err)
	}
	idA, _ := dsse.KeyID(a.Public())
	idC, _ := dsse.KeyID(c.Public())
	if want := []string{idA, idC}; !slices.Equal(signers, want) {
		t.Errorf("signers %q, want %q", signers, want)
	}
}

// Verifies: SR-006
func TestMalformed(t *testing.T) {
	a := newECDSA(t)
	good := sign(t, "payload", a)
	ring := keyring(t, a)
	replace := func(old, with string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q not in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	many := edit(t, good, func(m map[string]any) {
		s := m["signatures"].([]any)
		for len(s) <= dsse.MaxSignatures {
			s = append(s, s[0])
		}
		m["signatures"] = s
	})
	for _, tt := range []struct {
		name     string
		envelope []byte
		says     string
	}{
		{"empty", nil, "empty"},
		{"null", []byte("null"), "null"},
		{"array", []byte("[]"), ""},
		{"random", []byte("\x7fELF\x02\x01\x01"), ""},
		{"not UTF-8", replace("payload", "payl\xffad"), "UTF-8"},
		{"cut short", good[:len(good)/2], "cut short"},
		{"cut before the last brace", bytes.TrimRight(good, "}\n"), "cut short"},
		{"trailing data", append(bytes.Clone(good), "{}"...), "trailing data"},
		{"trailing brace", append(bytes.Clone(good), '}'), "trailing data"},
		{"too large", append(bytes.Clone(good), bytes.Repeat([]byte(" "), dsse.MaxSize)...), "at most"},
		{"payload twice", replace(`{"payload"`, `{"payload":"eA==","payload"`), `"payload" stands twice`},
		{"payload twice, escaped", replace(`{"payload"`, `{"p\u0061yload":"eA==","payload"`), `"payload" stands twice`},
		{"payload in another case", replace(`{"payload"`, `{"PAYLOAD":"eA==","payload"`), `unknown field "PAYLOAD"`},
		{"signature twice", replace(`"sig"`, `"sig":"","sig"`), `"signatures[0].sig" stands twice`},
		{"unknown field", replace(`{"payload"`, `{"extra":1,"payload"`), `unknown field "extra"`},
		{"unknown field in a signature", replace(`{"keyid"`, `{"cert":"","keyid"`), `unknown field "signatures[0].cert"`},
		{"payload a number", replace(`"cGF5bG9hZA=="`, `1`), ""},
		{"payload null", replace(`"cGF5bG9hZA=="`, `null`), "null"},
		{"signatures null", edit(t, good, func(m map[string]any) { m["signatures"] = nil }), "null"},
		{"no payload type", edit(t, good, func(m map[string]any) { delete(m, "payloadType") }), "payloadType"},
		{"long payload type", edit(t, good, func(m map[string]any) { m["payloadType"] = strings.Repeat("x", 257) }), "payloadType"},
		{"base64 without padding", replace("cGF5bG9hZA==", "cGF5bG9hZA"), "base64"},
		{"base64 with line break", replace("cGF5bG9hZA==", `cGF5\nbG9hZA==`), "line break"},
		{"base64 with stray bits", replace("cGF5bG9hZA==", "cGF5bG9hZB=="), "base64"},
		{"base64 of two alphabets", replace("cGF5bG9hZA==", "-_+/"), "base64"},
		{"empty signature", edit(t, good, func(m map[string]any) { m["signatures"] = []any{map[string]any{"sig": ""}} }), "signatures[0]"},
		{"long signature", edit(t, good, func(m map[string]any) {
			m["signatures"] = []any{map[string]any{"sig": strings.Repeat("AAAA", 100)}}
		}), "signatures[0]"},
		{"many signatures", many, "signatures"},
		{"deep", []byte(`{"signatures":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`), "deeper"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			payload, _, err := ring.Open(tt.envelope, testType, 1)
			if !errors.Is(err, dsse.ErrMalformed) || payload != nil {
				t.Fatalf("payload %q, error %v; want %v", payload, err, dsse.ErrMalformed)
			}
			if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("error %q, want one short line with %q", err, tt.says)
			}
		})
	}
}

// The specification: verifiers must accept both alphabets.
func TestURLSafeBase64(t *testing.T) {
	a := newECDSA(t)
	e := edit(t, sign(t, "\xff\xfe\xfd???>>>", a), func(m map[string]any) {
		url := strings.NewReplacer("+", "-", "/", "_")
		m["payload"] = url.Replace(m["payload"].(string))
		s := m["signatures"].([]any)[0].(map[string]any)
		s["sig"] = url.Replace(s["sig"].(string))
	})
	if _, _, err := keyring(t, a).Open(e, testType, 1); err != nil {
		t.Error(err)
	}
}

func TestSignRefuses(t *testing.T) {
	a := newECDSA(t)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, signers := range map[string][]crypto.Signer{
		"no key": nil, "same key twice": {a, a}, "P-384": {p384}, "RSA": {rsaKey},
		"too many": slices.Repeat([]crypto.Signer{a}, dsse.MaxSignatures+1),
	} {
		if e, err := dsse.Sign(testType, []byte("x"), signers...); err == nil {
			t.Errorf("%s: signed %s", name, e)
		}
	}
	if _, err := dsse.Sign("", []byte("x"), a); err == nil {
		t.Error("signed without a payload type")
	}
	if _, err := dsse.Sign(testType, make([]byte, dsse.MaxSize), a); err == nil {
		t.Error("signed more than is read again")
	}
}

func TestParseKeyring(t *testing.T) {
	a, b := newECDSA(t), newEd25519(t)
	pemA, pemB := publicPEM(t, a.Public()), publicPEM(t, b.Public())
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	private, err := x509.MarshalPKCS8PrivateKey(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		texts [][]byte
		want  int // -1: refused
	}{
		{"none", nil, 0},
		{"two files", [][]byte{pemA, pemB}, 2},
		{"two in one file", [][]byte{append(bytes.Clone(pemA), pemB...)}, 2},
		{"the same twice", [][]byte{pemA, pemA, pemB}, 2},
		{"empty file", [][]byte{pemA, nil}, -1},
		{"no PEM", [][]byte{[]byte("ssh-ed25519 AAAA")}, -1},
		{"cut short", [][]byte{pemA[:len(pemA)-20]}, -1},
		{"trailing text", [][]byte{append(bytes.Clone(pemA), "x"...)}, -1},
		{"private key", [][]byte{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}, -1},
		{"P-384", [][]byte{publicPEM(t, p384.Public())}, -1},
		{"no key in it", [][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ring, err := dsse.ParseKeyring(tt.texts...)
			if tt.want < 0 {
				if err == nil || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want one line", err)
				}
				return
			}
			if err != nil || ring.Len() != tt.want {
				t.Errorf("%d keys, error %v; want %d", ring.Len(), err, tt.want)
			}
		})
	}
}

// The fields of a struct that is embedded stand beside the others, and are as
// strict.
func TestDecodeJSONEmbedded(t *testing.T) {
	type Inner struct {
		A int `json:"a"`
	}
	var v struct {
		Inner
		B int `json:"b"`
	}
	if err := dsse.DecodeJSON([]byte(`{"a":1,"b":2}`), &v); err != nil || v.A != 1 || v.B != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	for _, text := range []string{`{"Inner":{"a":1}}`, `{"A":1}`, `{"a":1,"a":2}`, `{"a":null}`} {
		if err := dsse.DecodeJSON([]byte(text), &v); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestDecodeJSONNumbersAsKeys(t *testing.T) {
	var v struct {
		M map[int]string `json:"m"`
	}
	for _, s := range []string{`{"m":{"4":"a","04":"b"}}`, `{"m":{"+4":"b"}}`, `{"m":{"-0":"b"}}`, `{"m":{"x":"b"}}`} {
		if err := dsse.DecodeJSON([]byte(s), &v); err == nil {
			t.Errorf("%s was read as %v", s, v)
		}
	}
	if err := dsse.DecodeJSON([]byte(`{"m":{"4":"a","10":"b","-1":"c"}}`), &v); err != nil || len(v.M) != 3 {
		t.Errorf("%v, %v", v, err)
	}
}

// What Open gives out is what was signed, whatever was done to the envelope.
func FuzzMalleability(f *testing.F) {
	a, b := newECDSA(f), newEd25519(f)
	good := sign(f, `{"schema":1}`, a, b)
	ring := keyring(f, a, b)
	f.Add(good)
	f.Add(good[:len(good)-4])
	f.Add([]byte(`{"payload":"","payloadType":"x","signatures":[{"keyid":"","sig":"AA=="}]}`))
	f.Add([]byte(`{"payload":"-_-_","payloadType":"\u0000","signatures":[]}`))
	f.Fuzz(func(t *testing.T, envelope []byte) {
		e, err := dsse.Parse(envelope)
		payload, signers, openErr := ring.Open(envelope, testType, 2)
		if err != nil {
			if !errors.Is(err, dsse.ErrMalformed) || openErr == nil {
				t.Fatalf("Parse: %v, Open: %v", err, openErr)
			}
			return
		}
		if len(e.Signatures) > dsse.MaxSignatures || len(e.UntrustedPayload) > len(envelope) {
			t.Fatalf("beyond the bounds: %d signatures, %d bytes", len(e.Signatures), len(e.UntrustedPayload))
		}
		if openErr == nil && (string(payload) != `{"schema":1}` || len(signers) != 2) {
			t.Fatalf("opened %q by %q", payload, signers)
		}
	})
}

// Strict reading accepts a part of what lenient reading accepts, never more,
// and never two keys that differ in case alone.
func FuzzDecodeJSON(f *testing.F) {
	type document struct {
		Name string         `json:"name"`
		List []int          `json:"list"`
		Map  map[int]string `json:"map"`
		Raw  any            `json:"raw"`
	}
	for _, s := range []string{`{"name":"a","list":[1,2],"map":{"1":"x"},"raw":{"a":[{}]}}`, `{"name":"a","Name":"b"}`, `{"raw":{"a":1,"a":2}}`, `[`, `nul`, `{"list":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var strict, lenient document
		if dsse.DecodeJSON(b, &strict) != nil {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&lenient); err != nil {
			t.Fatalf("strict reading took %q, lenient says %v", b, err)
		}
		if !json.Valid(b) {
			t.Fatalf("took %q", b)
		}
	})
}
