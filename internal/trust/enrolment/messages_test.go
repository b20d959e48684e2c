package enrolment_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/trust/credential"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
)

func text(n int) []byte { return bytes.Repeat([]byte{'a'}, n) }

func request() enrolment.Request {
	return enrolment.Request{
		Version: 1, Tenant: "acme", Serial: "SN-0001",
		EK:   enrolment.Endorsement{Certificate: text(3), Chain: [][]byte{text(6)}},
		AK:   text(9),
		Keys: []enrolment.Key{{enrolment.Reporting, text(3), text(6), text(9)}, {enrolment.Service, text(12), text(15), text(18)}},
	}
}

const goldenRequest = `{"version":1,"tenant":"acme","serial":"SN-0001","ek":{"certificate":"YWFh","chain":["YWFhYWFh"]},"ak":"YWFhYWFhYWFh",` +
	`"keys":[{"use":"reporting","public":"YWFh","attest":"YWFhYWFh","signature":"YWFhYWFhYWFh"},` +
	`{"use":"service","public":"YWFhYWFhYWFhYWFh","attest":"YWFhYWFhYWFhYWFhYWFh","signature":"YWFhYWFhYWFhYWFhYWFhYWFh"}]`

// Devices in the field send these bytes, and files lie about with them.
//
// Verifies: SR-032
func TestGoldenMessages(t *testing.T) {
	blob := credential.Blob{Credential: text(3), Secret: text(6)}
	challenge := enrolment.Challenge{Version: 1, ID: "c0ffee", Credential: blob, Expires: 300}
	application := enrolment.Application{Request: request(), CSRs: [][]byte{text(3), text(6)}}
	answer := enrolment.Answer{Version: 1, Tenant: "acme", Device: "SN-0001", Credential: blob, Sealed: text(30)}
	bare := request()
	bare.EK.Chain, bare.Keys = nil, bare.Keys[:1]
	bareJSON := strings.Replace(goldenRequest, `,"chain":["YWFhYWFh"]`, "", 1)
	bareJSON = bareJSON[:strings.Index(bareJSON, `,{"use":"service"`)] + "]}"
	golden(t, "request", request(), goldenRequest+"}", enrolment.EncodeRequest, enrolment.ParseRequest)
	golden(t, "request of one key, without a chain", bare, bareJSON, enrolment.EncodeRequest, enrolment.ParseRequest)
	golden(t, "challenge", challenge, `{"version":1,"id":"c0ffee","credential":{"credential":"YWFh","secret":"YWFhYWFh"},"expiresSeconds":300}`, enrolment.EncodeChallenge, enrolment.ParseChallenge)
	golden(t, "application", application, goldenRequest+`,"csrs":["YWFh","YWFhYWFh"]}`, enrolment.EncodeApplication, enrolment.ParseApplication)
	golden(t, "answer", answer, `{"version":1,"tenant":"acme","device":"SN-0001","credential":{"credential":"YWFh","secret":"YWFhYWFh"},"sealed":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"}`, enrolment.EncodeAnswer, enrolment.ParseAnswer)
}

func golden[M any](t *testing.T, name string, m M, want string, encode func(M) ([]byte, error), parse func([]byte) (M, error)) {
	t.Helper()
	if got, err := encode(m); err != nil || string(got) != want {
		t.Errorf("%s is written as\n%s\nand not as\n%s\n%v", name, got, want, err)
	}
	if got, err := parse([]byte(want)); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%s is read as\n%+v\n%v", name, got, err)
	}
}

func TestBadMessages(t *testing.T) {
	parsers := map[string]func(string) error{
		"request":     func(s string) error { _, err := enrolment.ParseRequest([]byte(s)); return err },
		"challenge":   func(s string) error { _, err := enrolment.ParseChallenge([]byte(s)); return err },
		"application": func(s string) error { _, err := enrolment.ParseApplication([]byte(s)); return err },
		"answer":      func(s string) error { _, err := enrolment.ParseAnswer([]byte(s)); return err },
	}
	good := map[string]string{
		"request":     goldenRequest + "}",
		"challenge":   `{"version":1,"id":"c0ffee","credential":{"credential":"YWFh","secret":"YWFhYWFh"},"expiresSeconds":300}`,
		"application": goldenRequest + `,"csrs":["YWFh"]}`,
		"answer":      `{"version":1,"tenant":"acme","device":"SN-0001","credential":{"credential":"YWFh","secret":"YWFhYWFh"},"sealed":"YWFh"}`,
	}
	for kind, parse := range parsers {
		if err := parse(good[kind]); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		for name, s := range map[string]string{
			"nothing":            "",
			"no JSON":            "hello",
			"a list":             "[]",
			"null":               "null",
			"an empty object":    "{}",
			"version 2":          strings.Replace(good[kind], `"version":1`, `"version":2`, 1),
			"another key":        strings.Replace(good[kind], `"version":1`, `"version":1,"extra":1`, 1),
			"a key twice":        strings.Replace(good[kind], `"version":1`, `"version":1,"version":1`, 1),
			"another case":       strings.Replace(good[kind], `"version":1`, `"Version":1`, 1),
			"text behind":        good[kind] + "x",
			"cut":                good[kind][:len(good[kind])-2],
			"too long":           good[kind] + strings.Repeat(" ", enrolment.MaxAnswer),
			"bytes of a TPM":     "\x00\x23\xff",
			"Base64 that is not": strings.Replace(good[kind], `YWFh`, `YWF!`, 1),
		} {
			if err := parse(s); !errors.Is(err, enrolment.ErrMessage) {
				t.Errorf("%s, %s: %v, want ErrMessage", kind, name, err)
			}
		}
	}
	large := strings.Repeat("YWFh", 8<<10/3+1)
	for _, c := range []struct{ kind, old, new, want string }{
		{"request", `"certificate":"YWFh"`, `"certificate":"` + large + `"`, "certificate of 819"},
		{"request", `"chain":["YWFhYWFh"]`, `"chain":[""]`, "certificates above it of 0 bytes"},
		{"request", `"chain":["YWFhYWFh"]`, `"chain":[` + strings.Repeat(`"YWFh",`, 8) + `"YWFh"]`, "9 of certificates above it, want 0 to 8"},
		{"request", `"ak":"YWFhYWFhYWFh"`, `"ak":""`, "attestation key of 0 bytes"},
		{"request", `"use":"reporting"`, `"use":""`, "unknown use"},
		{"request", `"use":"reporting"`, `"use":"service"`, "two keys for the use"},
		{"request", `"public":"YWFh"`, `"public":""`, "key of 0 bytes"},
		{"request", `"attest":"YWFhYWFh"`, `"attest":""`, "attestation of 0 bytes"},
		{"request", `"signature":"YWFhYWFhYWFh"`, `"signature":""`, "signature of 0 bytes"},
		{"challenge", `"id":"c0ffee"`, `"id":""`, "id"},
		{"challenge", `"id":"c0ffee"`, `"id":"a:b"`, "id"},
		{"challenge", `300`, `0`, "expires in 0 seconds"},
		{"challenge", `300`, `86401`, "expires in 86401 seconds"},
		{"challenge", `"secret":"YWFhYWFh"`, `"secret":""`, "credential's secret of 0 bytes"},
		{"challenge", `{"credential":"YWFh"`, `{"credential":"` + large + `"`, "credential of 8"},
		{"application", `"csrs":["YWFh"]`, `"csrs":[]`, "0 of certification requests"},
		{"application", `"csrs":["YWFh"]`, `"csrs":["YWFh","YWFh","YWFh"]`, "3 of certification requests"},
		{"application", `"csrs":["YWFh"]`, `"csrs":["` + large + `"]`, "certification requests of 8"},
		{"answer", `"device":"SN-0001"`, `"device":"a b"`, "device"},
		{"answer", `"tenant":"acme"`, `"tenant":""`, "tenant"},
		{"answer", `"sealed":"YWFh"`, `"sealed":""`, "sealed part of 0 bytes"},
	} {
		s := strings.Replace(good[c.kind], c.old, c.new, 1)
		if err := parsers[c.kind](s); s == good[c.kind] || !errors.Is(err, enrolment.ErrMessage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %.60s: %v, want ErrMessage with %q", c.kind, c.new, err, c.want)
		}
	}
	if b, err := enrolment.EncodeRequest(enrolment.Request{}); b != nil || !errors.Is(err, enrolment.ErrMessage) {
		t.Errorf("an empty request is written as %s, %v", b, err)
	}
	whole := request()
	whole.EK.Certificate, whole.EK.Chain = text(8<<10), [][]byte{text(8 << 10), text(8 << 10), text(8 << 10), text(8 << 10), text(8 << 10)}
	if b, err := enrolment.EncodeRequest(whole); b != nil || !errors.Is(err, enrolment.ErrMessage) || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("a request over its bound is written as %d bytes, %v", len(b), err)
	}
}

func issued() enrolment.Issued {
	return enrolment.Issued{
		Tenant: "acme", Device: "SN-0001", CRL: text(9),
		Chains: map[enrolment.Use][][]byte{enrolment.Reporting: {text(3), text(6)}, enrolment.Service: {text(3)}},
	}
}

// What a device's TPM opens is what was issued for it; nobody else's opens it.
//
// Verifies: SR-032
func TestAnswer(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	device, other := maker.NewDevice(t, "SN-0001"), maker.NewDevice(t, "SN-0002")
	proof, err := device.Request("acme").Verify(maker.Terms(now))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := proof.Seal(rand.Reader, issued())
	if err != nil {
		t.Fatal(err)
	}
	file, err := enrolment.EncodeAnswer(sealed)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := enrolment.ParseAnswer(file)
	if err != nil || bytes.Contains(answer.Sealed, text(6)) {
		t.Fatalf("%+v, %v", answer, err)
	}
	secret := device.Activate(answer.Credential)
	if got, err := answer.Open(secret); err != nil || !reflect.DeepEqual(got, issued()) {
		t.Errorf("%+v, %v", got, err)
	}
	if got := other.Activate(answer.Credential); got != nil {
		t.Errorf("another TPM opened the credential: %x", got)
	}
	changed := func(f func(*enrolment.Answer)) enrolment.Answer {
		a := answer
		a.Sealed = bytes.Clone(a.Sealed)
		f(&a)
		return a
	}
	for _, c := range []struct {
		name   string
		answer enrolment.Answer
		secret []byte
		want   error
	}{
		{"another secret", answer, make([]byte, 32), enrolment.ErrOtherTPM},
		{"no secret", answer, nil, enrolment.ErrOtherTPM},
		{"a long secret", answer, append(bytes.Clone(secret), 0), enrolment.ErrOtherTPM},
		{"another tenant on it", changed(func(a *enrolment.Answer) { a.Tenant = "other" }), secret, enrolment.ErrOtherTPM},
		{"another device on it", changed(func(a *enrolment.Answer) { a.Device = "SN-0002" }), secret, enrolment.ErrOtherTPM},
		{"a bit of the nonce", changed(func(a *enrolment.Answer) { a.Sealed[0] ^= 1 }), secret, enrolment.ErrOtherTPM},
		{"a bit of the content", changed(func(a *enrolment.Answer) { a.Sealed[20] ^= 1 }), secret, enrolment.ErrOtherTPM},
		{"a bit of the tag", changed(func(a *enrolment.Answer) { a.Sealed[len(a.Sealed)-1] ^= 1 }), secret, enrolment.ErrOtherTPM},
		{"cut", changed(func(a *enrolment.Answer) { a.Sealed = a.Sealed[:11] }), secret, enrolment.ErrMessage},
		{"cut behind the nonce", changed(func(a *enrolment.Answer) { a.Sealed = a.Sealed[:12] }), secret, enrolment.ErrOtherTPM},
		{"version 2", changed(func(a *enrolment.Answer) { a.Version = 2 }), secret, enrolment.ErrMessage},
		{"nothing", enrolment.Answer{}, secret, enrolment.ErrMessage},
	} {
		if got, err := c.answer.Open(c.secret); !errors.Is(err, c.want) || !reflect.DeepEqual(got, enrolment.Issued{}) {
			t.Errorf("%s: %+v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

// answerFile is an answer as lies in files; its secret is 32 bytes of 7.
type answerFile struct {
	Secret string          `json:"secret"`
	Answer json.RawMessage `json:"answer"`
}

// An answer that was written once opens for ever.
func TestGoldenAnswer(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "answer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file answerFile
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	secret, err := hex.DecodeString(file.Secret)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, file.Answer); err != nil {
		t.Fatal(err)
	}
	answer, err := enrolment.ParseAnswer(compact.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got, err := answer.Open(secret)
	if err != nil || !reflect.DeepEqual(got, issued()) {
		t.Errorf("%+v, %v", got, err)
	}
	if again, err := enrolment.EncodeAnswer(answer); err != nil || !bytes.Equal(again, compact.Bytes()) {
		t.Errorf("written as %s, %v", again, err)
	}
}

// Nothing is sealed for a device that was not proved, or that cannot be opened.
func TestSealRefuses(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	proof, err := maker.NewDevice(t, "SN-0001").Request("acme").Verify(maker.Terms(now))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*enrolment.Issued){
		"another tenant":           func(i *enrolment.Issued) { i.Tenant = "other" },
		"another device":           func(i *enrolment.Issued) { i.Device = "SN-0002" },
		"no certificate":           func(i *enrolment.Issued) { i.Chains = nil },
		"an empty chain":           func(i *enrolment.Issued) { i.Chains[enrolment.Service] = nil },
		"a certificate of nothing": func(i *enrolment.Issued) { i.Chains[enrolment.Service] = [][]byte{nil} },
		"an unknown use":           func(i *enrolment.Issued) { i.Chains["root"] = [][]byte{text(3)} },
		"a large CRL":              func(i *enrolment.Issued) { i.CRL = text(48<<10 + 1) },
	} {
		i := issued()
		f(&i)
		if a, err := proof.Seal(rand.Reader, i); err == nil || a.Sealed != nil {
			t.Errorf("%s: sealed", name)
		}
	}
	if _, err := proof.Seal(bytes.NewReader(nil), issued()); !errors.Is(err, io.EOF) {
		t.Errorf("without random numbers: %v", err)
	}
	if _, _, err := new(enrolment.Proof).Credential(rand.Reader); err == nil {
		t.Error("a credential for a proof of nothing")
	}
}

// Each credential has a secret of its own that the device's TPM opens; after the
// attestation key was replaced it does not.
//
// Verifies: SR-032
func TestCredential(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	device := maker.NewDevice(t, "SN-0001")
	proof, err := device.Request("acme").Verify(maker.Terms(now))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	var last credential.Blob
	for range 3 {
		blob, secret, err := proof.Credential(rand.Reader)
		if err != nil || len(secret) != 32 || seen[string(secret)] {
			t.Fatalf("%x, %v", secret, err)
		}
		seen[string(secret)] = true
		if got := device.Activate(blob); !bytes.Equal(got, secret) {
			t.Errorf("opened %x, want %x", got, secret)
		}
		last = blob
	}
	device.NewAK()
	if got := device.Activate(last); got != nil {
		t.Errorf("opened for another attestation key: %x", got)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte(goldenRequest + "}"))
	f.Add([]byte(goldenRequest + `,"csrs":["YWFh"]}`))
	f.Add([]byte(`{"version":1,"id":"c0ffee","credential":{"credential":"YWFh","secret":"YWFhYWFh"},"expiresSeconds":300}`))
	f.Add([]byte(`{"version":1,"tenant":"acme","device":"SN-0001","credential":{"credential":"YWFh","secret":"YWFhYWFh"},"sealed":"YWFh"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, enrolment.ParseRequest, enrolment.EncodeRequest)
		roundTrip(t, b, enrolment.ParseChallenge, enrolment.EncodeChallenge)
		roundTrip(t, b, enrolment.ParseApplication, enrolment.EncodeApplication)
		roundTrip(t, b, enrolment.ParseAnswer, enrolment.EncodeAnswer)
	})
}

// roundTrip: what can be read can be written, if it is not longer by that than its
// bound, and is the same when it is read again.
func roundTrip[M any](t *testing.T, b []byte, parse func([]byte) (M, error), encode func(M) ([]byte, error)) {
	t.Helper()
	most := uint64(4<<20 + 256*len(b)) // each value of the document, with its path
	if used := alloctest.Bytes(most, func() { _, _ = parse(b) }); used > most {
		t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
	}
	m, err := parse(b)
	if err != nil {
		if !errors.Is(err, enrolment.ErrMessage) {
			t.Fatalf("%v is not ErrMessage", err)
		}
		return
	}
	written, err := encode(m)
	if err != nil {
		if len(b) > enrolment.MaxRequest/8 {
			return // escapes in texts may make it longer
		}
		t.Fatal(err)
	}
	again, err := parse(written)
	if err != nil {
		t.Fatalf("%s: %v", written, err)
	}
	if twice, err := encode(again); err != nil || !bytes.Equal(twice, written) {
		t.Fatalf("%s became %s, %v", written, twice, err)
	}
}

// Whatever a device sends, the judgement is one of the named refusals or a proof of
// what it was asked for.
func FuzzVerify(f *testing.F) {
	maker := enrolmenttest.NewMaker(f)
	good := maker.NewDevice(f, "SN-0001").Request("acme")
	k := good.Keys[1]
	f.Add(good.EK.Certificate, good.EK.Chain[0], good.AK, k.Public, k.Attest, k.Signature)
	captured, _ := readCapture(f, "swtpm-rsa2048.json")
	f.Add(captured.EK.Certificate, good.EK.Chain[0], captured.AK, captured.Keys[0].Public, captured.Keys[0].Attest, captured.Keys[0].Signature)
	terms := maker.Terms(now)
	f.Fuzz(func(t *testing.T, certificate, above, ak, public, attest, signature []byte) {
		r := enrolment.Request{
			Version: 1, Tenant: "acme", Serial: "SN-0001", AK: ak,
			EK:   enrolment.Endorsement{Certificate: certificate, Chain: [][]byte{above}},
			Keys: []enrolment.Key{{enrolment.Service, public, attest, signature}},
		}
		p, err := r.Verify(terms)
		if err == nil {
			if !bytes.Equal(public, k.Public) || !bytes.Equal(ak, good.AK) || !bytes.Equal(attest, k.Attest) {
				t.Fatalf("another key was proved: %x", public)
			}
			return
		}
		named := 0
		for _, sentinel := range sentinels {
			if errors.Is(err, sentinel) {
				named++
			}
		}
		if p != nil || named != 1 {
			t.Fatalf("%v is %d of the named refusals", err, named)
		}
	})
}

func FuzzOpen(f *testing.F) {
	secret := bytes.Repeat([]byte{7}, 32)
	f.Add("acme", "SN-0001", []byte("sealed bytes that are long enough"))
	f.Fuzz(func(t *testing.T, tenant, device string, sealed []byte) {
		a := enrolment.Answer{Version: 1, Tenant: tenant, Device: device, Credential: credential.Blob{Credential: text(3), Secret: text(3)}, Sealed: sealed}
		if i, err := a.Open(secret); err == nil || !errors.Is(err, enrolment.ErrOtherTPM) && !errors.Is(err, enrolment.ErrMessage) {
			t.Fatalf("%+v, %v", i, err)
		}
	})
}

// A device whose TPM has no certificate can say so, and is told what is missing.
func TestRequestWithoutCertificate(t *testing.T) {
	maker := enrolmenttest.NewMaker(t)
	r := maker.NewDevice(t, "SN-0001").Request("acme")
	r.EK = enrolment.Endorsement{}
	b, err := enrolment.EncodeRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	read, err := enrolment.ParseRequest(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read.Verify(maker.Terms(now)); !errors.Is(err, enrolment.ErrEKMissing) {
		t.Errorf("%v, want ErrEKMissing", err)
	}
}
