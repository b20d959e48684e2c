package attester_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"ward/internal/agent/attester"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/device/tpm"
	"ward/internal/format/dsse"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// once plays a changed scene and returns what was recorded at first.
func once(t *testing.T, change func(*scene)) (events []event.Event) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		change(s)
		s.play(func(*attester.Attester) { events = s.journal.take() })
	})
	return events
}

// One bad input, one clear finding beside those that say what could not be
// judged for it; never an affirming verdict.
//
// Verifies: SR-006 SR-007 SR-017
func TestBadInput(t *testing.T) {
	envelope := func(change func(*release.Manifest)) func(*scene) {
		return func(s *scene) {
			change(&s.device.Manifest)
			s.write(s.config.Release, s.device.Envelope(s.t))
		}
	}
	notJudged := []string{"raised boot.not-judged boot", "raised ima.not-judged ima"}
	for name, c := range map[string]struct {
		change  func(*scene)
		verdict string
		want    []string
	}{
		"manifest missing":    {func(s *scene) { s.remove(s.config.Release) }, "none", append([]string{"raised boot.release-missing"}, notJudged...)},
		"manifest empty":      {func(s *scene) { s.write(s.config.Release, nil) }, "none", append([]string{"raised boot.release-malformed"}, notJudged...)},
		"manifest cut short":  {func(s *scene) { e := s.device.Envelope(s.t); s.write(s.config.Release, e[:len(e)/2]) }, "none", append([]string{"raised boot.release-malformed"}, notJudged...)},
		"manifest too long":   {func(s *scene) { s.write(s.config.Release, make([]byte, dsse.MaxSize+1)) }, "none", append([]string{"raised boot.release-malformed"}, notJudged...)},
		"manifest unsigned":   {unsigned, "none", append([]string{"raised boot.release-signature"}, notJudged...)},
		"manifest bare":       {bare, "none", append([]string{"raised boot.release-signature"}, notJudged...)},
		"manifest of another": {func(s *scene) { s.device.Key = appraisaltest.Key(9); s.write(s.config.Release, s.device.Envelope(s.t)) }, "none", append([]string{"raised boot.release-signature"}, notJudged...)},
		"manifest altered":    {func(s *scene) { s.write(s.config.Release, flip(s.device.Envelope(s.t))) }, "none", append([]string{"raised boot.release-signature"}, notJudged...)},
		"threshold of two":    {func(s *scene) { s.config.Threshold = 2 }, "none", append([]string{"raised boot.release-signature"}, notJudged...)},
		"another schema":      {schema, "none", append([]string{"raised boot.release-schema"}, notJudged...)},
		"another payload":     {payload, "none", append([]string{"raised boot.release-schema"}, notJudged...)},
		"no release keys":     {func(s *scene) { s.remove(s.key()) }, "none", append([]string{"raised boot.release-no-trust"}, notJudged...)},
		"a key that is none":  {func(s *scene) { s.write(s.key(), []byte("key")) }, "none", append([]string{"raised boot.release-no-trust"}, notJudged...)},
		"baseline missing":    {func(s *scene) { s.remove(s.config.Baseline) }, "none", []string{"raised boot.baseline-missing", "raised ima.not-judged ima"}},
		"baseline of another": {func(s *scene) { s.write(s.config.Baseline, []byte("ward-baseline 1\n")) }, "none", []string{"raised boot.baseline-differs", "raised ima.not-judged ima"}},
		"baseline no text":    {envelope(func(m *release.Manifest) { m.Files.Digest[0] ^= 1 }), "none", []string{"raised boot.baseline-differs", "raised ima.not-judged ima"}},
		"event log empty":     {func(s *scene) { s.kernel.Write(securityfstest.EventLog, nil) }, "none", []string{"raised boot.log-empty boot"}},
		"event log missing":   {func(s *scene) { s.kernel.Remove(securityfstest.EventLog) }, "none", []string{"raised boot.log-unreadable boot"}},
		"event log random":    {func(s *scene) { s.kernel.Write(securityfstest.EventLog, bytes.Repeat([]byte{0xa5, 3}, 999)) }, "none", []string{"raised boot.log-unreadable boot"}},
		"event log too long":  {func(s *scene) { s.kernel.Write(securityfstest.EventLog, make([]byte, 2<<20)) }, "none", []string{"raised boot.log-unreadable boot"}},
		"no TPM":              {func(s *scene) { s.config.TPM = nil; s.kernel.Remove("sys") }, "none", []string{"raised tpm.absent tpm", "raised boot.quote-missing boot", "raised boot.pcr-unreadable boot"}},
		"no TPM device":       {func(s *scene) { s.chip.err = fmt.Errorf("open: %w", tpm.ErrAbsent); s.kernel.Remove("sys") }, "none", []string{"raised tpm.absent tpm", "raised boot.quote-missing boot", "raised boot.pcr-unreadable boot"}},
		"TPM busy":            {func(s *scene) { s.chip.err = tpm.ErrBusy; s.kernel.Remove("sys") }, "none", []string{"raised tpm.failing tpm", "raised boot.quote-missing boot", "raised boot.pcr-unreadable boot"}},
		"TPM busy, sysfs":     {func(s *scene) { s.chip.err = tpm.ErrBusy }, "warning", []string{"raised tpm.failing tpm", "raised boot.quote-missing boot"}},
		"no attestation key":  {func(s *scene) { s.chip.noKey = true }, "warning", []string{"raised boot.quote-missing boot"}},
		"no IMA":              {func(s *scene) { s.kernel.Remove("security/ima") }, "none", []string{"raised ima.absent ima"}},
		"IMA list random":     {func(s *scene) { s.kernel.Write(securityfstest.List, bytes.Repeat([]byte{0xa5, 3}, 999)) }, "none", []string{"raised ima.unreadable ima"}},
		"IMA list cut":        {func(s *scene) { s.kernel.Write(securityfstest.List, s.device.List[:len(s.device.List)-1]) }, "none", []string{"raised ima.truncated ima"}},
	} {
		t.Run(name, func(t *testing.T) {
			events := once(t, c.change)
			got := said(t, events)
			if len(got) == 0 || got[0] != "verdict "+c.verdict {
				t.Fatalf("recorded %q", got)
			}
			for i := range got {
				if fields := strings.Fields(got[i]); len(fields) == 3 && filepath.IsAbs(fields[2]) {
					got[i] = fields[0] + " " + fields[1] // the subject is a file of this test
				}
			}
			rest := slices.Sorted(slices.Values(got[1:]))
			if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(rest, want) {
				t.Errorf("recorded %q, want %q", rest, want)
			}
			for _, e := range events[1:] {
				if strings.ContainsAny(e.Finding.Detail, "\n\r") || e.Finding.Detail == "" || e.Finding.Remedy == "" {
					t.Errorf("%s: detail %q, remedy %q", e.Finding.Code, e.Finding.Detail, e.Finding.Remedy)
				}
			}
		})
	}
}

// unsigned takes the signatures out of the envelope.
func unsigned(s *scene) {
	var e map[string]any
	if err := json.Unmarshal(s.device.Envelope(s.t), &e); err != nil {
		s.t.Fatal(err)
	}
	e["signatures"] = []any{}
	b, err := json.Marshal(e)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(s.config.Release, b)
}

// bare writes the manifest without any envelope.
func bare(s *scene) {
	b, err := release.Encode(s.device.Manifest)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(s.config.Release, b)
}

// schema signs a manifest of a schema that is to come.
func schema(s *scene) {
	b, err := release.Encode(s.device.Manifest)
	if err != nil {
		s.t.Fatal(err)
	}
	s.sign(release.PayloadType, bytes.Replace(b, []byte(`"schema":1`), []byte(`"schema":2`), 1))
}

// payload signs the right manifest as something else.
func payload(s *scene) {
	b, err := release.Encode(s.device.Manifest)
	if err != nil {
		s.t.Fatal(err)
	}
	s.sign("application/vnd.ward.receipt.v1+json", b)
}

func (s *scene) sign(payloadType string, b []byte) {
	s.t.Helper()
	e, err := dsse.Sign(payloadType, b, s.device.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(s.config.Release, e)
}

// flip changes one letter of the payload's base64, in the middle.
func flip(envelope []byte) []byte {
	var e struct {
		Payload     string          `json:"payload"`
		PayloadType string          `json:"payloadType"`
		Signatures  json.RawMessage `json:"signatures"`
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		panic(err)
	}
	b := []byte(e.Payload)
	if b[len(b)/2] == 'A' {
		b[len(b)/2] = 'B'
	} else {
		b[len(b)/2] = 'A'
	}
	e.Payload = string(b)
	out, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return out
}

// Several keys in several files make one keyring.
//
// Verifies: SR-006
func TestThresholdOfTwo(t *testing.T) {
	s := newScene(t)
	second := appraisaltest.Key(2)
	s.write(filepath.Join(s.config.Trust, "release", "second.pem"), appraisaltest.KeyPEM(t, second))
	if v, fs := attester.LoadRelease(s.config.Release, s.config.Trust, 2); v != nil || len(fs) != 1 || fs[0].Code != finding.ReleaseSignature {
		t.Errorf("one signature of two: %v, %+v", v, fs)
	}
	b, err := release.Sign(s.device.Manifest, s.device.Key, second)
	if err != nil {
		t.Fatal(err)
	}
	s.write(s.config.Release, b)
	v, fs := attester.LoadRelease(s.config.Release, s.config.Trust, 2)
	if v == nil || len(fs) != 0 || len(v.Signers()) != 2 {
		t.Errorf("two signatures: %v, %+v", v, fs)
	}
	b, err = release.Sign(s.device.Manifest, s.device.Key, ed25519.PrivateKey(appraisaltest.Key(3)))
	if err != nil {
		t.Fatal(err)
	}
	s.write(s.config.Release, b)
	if v, _ := attester.LoadRelease(s.config.Release, s.config.Trust, 2); v != nil {
		t.Error("a stranger's signature counted")
	}
}
