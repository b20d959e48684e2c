package volume_test

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/luks2"
	"ward/internal/format/tss2"
	"ward/internal/trust/finding"
	"ward/internal/trust/volume"
)

// sealed is the file of a sealed secret that package tss2 keeps as golden bytes.
func sealed(t testing.TB) tss2.File {
	t.Helper()
	text, err := os.ReadFile("../../format/tss2/testdata/sealed.pem")
	if err != nil {
		t.Fatal(err)
	}
	f, err := tss2.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func token(t testing.TB) []byte {
	t.Helper()
	b, err := volume.Token(sealed(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// header is one as manufacture makes it.
func header(t testing.TB) luks2.Header {
	return luks2.Header{Area: luks2.Area{
		Keyslots: []luks2.Keyslot{
			{Number: 0, Type: "luks2", KeySize: 64, Encryption: volume.Cipher, KDF: "pbkdf2"},
			{Number: 1, Type: "luks2", KeySize: 64, Encryption: volume.Cipher, KDF: "argon2id"},
		},
		Tokens:   []luks2.Token{{Type: volume.TokenType, Keyslots: []int{0}, JSON: token(t)}},
		Segments: []luks2.Segment{{Type: "crypt", Offset: 4 << 20, Encryption: volume.Cipher, SectorSize: 512}},
	}}
}

// The token's form is that of docs/volumes.md; cryptsetup keeps it as it is.
//
// Verifies: SR-041
func TestTokenHoldsTheSealedKey(t *testing.T) {
	var form struct {
		Type     string   `json:"type"`
		Keyslots []string `json:"keyslots"`
		Key      []byte   `json:"ward-key"`
	}
	if err := json.Unmarshal(token(t), &form); err != nil || form.Type != "ward-tpm2" || !slices.Equal(form.Keyslots, []string{"0"}) {
		t.Errorf("token %s, %v", token(t), err)
	}
	f := sealed(t)
	if !strings.HasPrefix(string(form.Key), "-----BEGIN TSS2 PRIVATE KEY-----\n") {
		t.Errorf("its key is %q", form.Key)
	}
	s, err := volume.Key(header(t))
	if err != nil || !slices.Equal(s.Public, f.Public) || !slices.Equal(s.Private, f.Private) {
		t.Errorf("read %+v, %v", s, err)
	}
	if _, err := volume.Token(tss2.File{Kind: tss2.Loadable}); err == nil {
		t.Error("a token of a signing key: no error")
	}
}

// A header that would have the device write in the open, or that is not as
// manufacture made it, is refused before a key is asked for.
//
// Verifies: SR-041
func TestForeignHeadersAreRefused(t *testing.T) {
	reporting, err := os.ReadFile("../../format/tss2/testdata/reporting.pem")
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, key []byte) []byte {
		b, err := json.Marshal(map[string]any{"type": kind, "keyslots": []string{"0"}, "ward-key": key})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, change := range map[string]func(a *luks2.Area){
		"no cipher":                   func(a *luks2.Area) { a.Segments[0].Encryption = "cipher_null-ecb" },
		"another cipher":              func(a *luks2.Area) { a.Segments[0].Encryption = "aes-cbc-plain" },
		"a plain segment":             func(a *luks2.Area) { a.Segments[0].Type = "linear" },
		"two segments":                func(a *luks2.Area) { a.Segments = append(a.Segments, a.Segments[0]) },
		"no segment":                  func(a *luks2.Area) { a.Segments = nil },
		"a segment with integrity":    func(a *luks2.Area) { a.Segments[0].Integrity = true },
		"a key slot without a cipher": func(a *luks2.Area) { a.Keyslots[1].Encryption = "cipher_null-ecb" },
		"a key slot of another kind":  func(a *luks2.Area) { a.Keyslots[0].Type = "reencrypt" },
		"a short volume key":          func(a *luks2.Area) { a.Keyslots[0].KeySize = 32 },
		"no key slot":                 func(a *luks2.Area) { a.Keyslots = nil },
		"a change that was begun":     func(a *luks2.Area) { a.Requirements = []string{"online-reencrypt-v2"} },
		"no token":                    func(a *luks2.Area) { a.Tokens = nil },
		"a token of another":          func(a *luks2.Area) { a.Tokens[0].Type = "systemd-tpm2" },
		"two tokens":                  func(a *luks2.Area) { a.Tokens = append(a.Tokens, a.Tokens[0]) },
		"a token of the recovery key": func(a *luks2.Area) { a.Tokens[0].Keyslots = []int{1} },
		"a token that is no JSON":     func(a *luks2.Area) { a.Tokens[0].JSON = []byte("{") },
		"a token that is too long":    func(a *luks2.Area) { a.Tokens[0].JSON = append(token(t), make([]byte, 8<<10)...) },
		"a token of another type":     func(a *luks2.Area) { a.Tokens[0].JSON = text("other", sealed(t).PEM()) },
		"no key file in the token":    func(a *luks2.Area) { a.Tokens[0].JSON = text(volume.TokenType, []byte("AAAA")) },
		"a signing key in the token":  func(a *luks2.Area) { a.Tokens[0].JSON = text(volume.TokenType, reporting) },
		"a damaged public area": func(a *luks2.Area) {
			f := sealed(t)
			f.Public = f.Public[:len(f.Public)-1]
			a.Tokens[0].JSON = text(volume.TokenType, f.PEM())
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := header(t)
			change(&h.Area)
			s, err := volume.Key(h)
			if !errors.Is(err, volume.ErrRefused) || s.Public != nil {
				t.Errorf("read %+v, %v", s, err)
			}
		})
	}
}

// Verifies: SR-041
func TestReport(t *testing.T) {
	const text = `{"name":"state","opened":true,"tookMs":88}
{"name":"data","opened":true,"tookMs":144}
{"name":"data","opened":false,"cause":"mapping","detail":"mount: bad superblock"}
`
	got, err := volume.ParseReport([]byte(text))
	want := []volume.Outcome{
		{Name: volume.State, Opened: true, TookMS: 88},
		{Name: volume.Data, Cause: volume.Mapping, Detail: "mount: bad superblock"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("report %+v, %v", got, err)
	}
	var again []byte
	for _, o := range got {
		again = append(again, o.Line()...)
	}
	if twice, err := volume.ParseReport(again); err != nil || !reflect.DeepEqual(twice, want) {
		t.Errorf("written and read: %+v, %v", twice, err)
	}
	for _, bad := range []string{
		"{", "\n", `{"name":"","opened":true}`, `{"name":"data","opened":false}`, `{"name":"data","opened":true,"cause":"mapping"}`,
		`{"name":"` + strings.Repeat("x", 33) + `","opened":true}`, strings.Repeat(" ", volume.MaxReport+1),
	} {
		if got, err := volume.ParseReport([]byte(bad)); err == nil {
			t.Errorf("%.40q reads as %+v", bad, got)
		}
	}
}

// Every cause has words and a remedy of its own, and one that is not known is told
// too.
//
// Verifies: SR-041
func TestFindings(t *testing.T) {
	remedies := map[string]volume.Cause{}
	for _, c := range []volume.Cause{
		volume.BootState, volume.Rollback, volume.OtherTPM, volume.Cleared, volume.NoTPM, volume.Failing, volume.Policy, volume.Release,
		volume.Plain, volume.Header, volume.Mapping, volume.Unknown,
	} {
		f, ok := volume.Outcome{Name: volume.Data, Cause: c, Detail: "why"}.Finding()
		if !ok || f.Code != finding.IdentityDataClosed || f.Severity != finding.High || !strings.HasSuffix(f.Detail, ": why") || f.Remedy == "" {
			t.Errorf("%s: %+v", c, f)
		}
		if other, twice := remedies[f.Remedy]; twice {
			t.Errorf("%s and %s have the same remedy", c, other)
		}
		remedies[f.Remedy] = c
	}
	if f, ok := (volume.Outcome{Name: volume.State, Cause: "new"}).Finding(); !ok || f.Code != finding.IdentityStateClosed || f.Remedy == "" {
		t.Errorf("an unknown cause: %+v", f)
	}
	for _, o := range []volume.Outcome{{Name: volume.Data, Opened: true}, {Name: "swap", Cause: volume.NoTPM}} {
		if f, ok := o.Finding(); ok {
			t.Errorf("%+v gives %+v", o, f)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(token(f))
	f.Add([]byte(`{"type":"ward-tpm2","ward-key":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := volume.ParseToken(b)
		if err != nil && (!errors.Is(err, volume.ErrRefused) || s.Public != nil) {
			t.Errorf("read %+v, %v", s, err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"name":"state","opened":true}` + "\n" + `{"name":"data","opened":false,"cause":"no-tpm"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := volume.ParseReport(b)
		if err != nil && all != nil {
			t.Errorf("read %+v, %v", all, err)
		}
		for _, o := range all {
			if closed, ok := o.Finding(); ok && o.Opened {
				t.Errorf("an open volume gives %+v", closed)
			}
		}
	})
}
