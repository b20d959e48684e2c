// Package appraisaltest makes devices on paper for tests: an event log, the
// registers that it gives, an IMA list, a file baseline and a signed release
// that all fit together, to be changed in one place at a time. Bytes follow the
// TCG PC Client Platform Firmware Profile, section 10, and the kernel's binary
// IMA list.
package appraisaltest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"ward/internal/format/dsse"
	"ward/internal/format/eventlog"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/profile"
	"ward/internal/trust/quote"
	"ward/internal/trust/quote/quotetest"
	"ward/internal/trust/release"
)

// Firmware names the firmware of the device on paper.
const Firmware = "paper firmware"

// Device is a device on paper.
type Device struct {
	Log      []byte
	PCRs     pcr.Values
	List     []byte
	Baseline []byte
	Manifest release.Manifest
	Key      ed25519.PrivateKey // of the release
	AK       *ecdsa.PrivateKey  // the attestation key
	Clock    quote.Clock        // of the TPM
}

// New makes a device whose boot and files are those of its release. Its IMA list
// holds boot_aggregate and the programs /usr/sbin/wardd and /usr/bin/pump.
func New(t testing.TB) *Device {
	t.Helper()
	return Booted(t, Log(Events()...), Program("/usr/sbin/wardd"), Program("/usr/bin/pump"))
}

// Booted makes a device of a log and of programs, each of which is released and
// ran. Every PCR that the log extends is judged exactly.
func Booted(t testing.TB, log []byte, programs ...Measured) *Device {
	t.Helper()
	d := &Device{
		Log: log, PCRs: Replay(t, log), Key: Key(1), AK: quotetest.Key(t),
		Clock: quote.Clock{Milliseconds: 60_000, ResetCount: 7, RestartCount: 1, Safe: true},
	}
	d.SetList(t, programs...)
	d.Release(t, Baseline(t, programs...))
	return d
}

// SetList makes boot_aggregate and these entries the device's IMA list, and
// PCR 10 its value.
func (d *Device) SetList(t testing.TB, entries ...Measured) {
	t.Helper()
	d.List = List(slices.Concat([]Measured{Aggregate(d.PCRs)}, entries)...)
	d.PCRs[ima.Register] = ReplayList(t, d.List)
}

// Release makes the device's present boot and a baseline its release.
func (d *Device) Release(t testing.TB, files []byte) {
	t.Helper()
	log, err := eventlog.Parse(d.Log)
	if err != nil {
		t.Fatal(err)
	}
	bank, err := log.Replay(pcr.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	rules := map[int]profile.Rule{ima.Register: {Mode: release.Recorded, Reason: "grows while the device runs"}}
	for i := range bank.Values() {
		rules[i] = profile.Rule{Mode: release.Exact}
	}
	firmware, err := profile.Learn(profile.Golden{Log: log, Board: "paper", Firmware: Firmware}, rules)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := profile.Assemble([]profile.Profile{firmware}, rules)
	if err != nil {
		t.Fatal(err)
	}
	d.Baseline = files
	d.Manifest = release.Manifest{
		Schema: release.SchemaVersion, Product: "pump", Board: "paper", Version: "1.0.0", RollbackIndex: 1,
		BuildTime: time.Unix(1_700_000_000, 0).UTC(), Boot: boot,
		Files: release.Files{Digest: sha256.Sum256(files), Path: "/usr/lib/ward/baseline"},
	}
}

// Evidence is what the device says, with no quote to vouch for it.
func (d *Device) Evidence() evidence.Evidence {
	return evidence.Evidence{Tenant: "lab", Device: "paper-1", Boot: "boot-1", Bank: pcr.SHA256, PCRs: d.PCRs, EventLog: d.Log, IMA: d.List}
}

// Quoted is what the device says when it is asked with a nonce.
func (d *Device) Quoted(t testing.TB, nonce []byte, r evidence.Record) evidence.Evidence {
	t.Helper()
	e := d.Evidence()
	e.Nonce, e.Record = nonce, r
	d.Quote(t, &e)
	return e
}

// Quote has the device's TPM vouch for the registers that the evidence holds,
// whatever they are; its clock moves on.
func (d *Device) Quote(t testing.TB, e *evidence.Evidence) {
	t.Helper()
	d.Clock.Milliseconds += 100
	boot, list := make(pcr.Values), make(pcr.Values)
	for _, n := range evidence.BootRegisters {
		if v, ok := e.PCRs[n]; ok {
			boot[n] = v
		}
	}
	if v, ok := e.PCRs[ima.Register]; ok {
		list[ima.Register] = v
	}
	question := quote.Qualifying(e.Nonce, e.Record.Head, e.Claims())
	e.BootQuote, e.ListQuote = evidence.Quote{}, evidence.Quote{}
	if len(boot) > 0 {
		e.BootQuote = evidence.Quote(quotetest.Sign(t, d.AK, question, d.Clock, e.Bank, boot))
	}
	if len(list) > 0 {
		e.ListQuote = evidence.Quote(quotetest.Sign(t, d.AK, question, d.Clock, e.Bank, list))
	}
}

// Policy is that of a fleet that knows the device's key and files.
func (d *Device) Policy(t testing.TB) appraisal.Policy {
	t.Helper()
	return appraisal.Policy{Baseline: d.Index(t), AK: &d.AK.PublicKey}
}

// Envelope is the signed manifest.
func (d *Device) Envelope(t testing.TB) []byte {
	t.Helper()
	b, err := release.Sign(d.Manifest, d.Key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Verified is the manifest as it comes out of its envelope.
func (d *Device) Verified(t testing.TB) *release.Verified {
	t.Helper()
	keys, err := dsse.ParseKeyring(KeyPEM(t, d.Key))
	if err != nil {
		t.Fatal(err)
	}
	v, err := release.Open(d.Envelope(t), keys, 1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Index is the index of the device's baseline.
func (d *Device) Index(t testing.TB) *baseline.Index {
	t.Helper()
	x, err := baseline.LoadIndex(bytes.NewReader(d.Baseline), int64(len(d.Baseline)), sha256.Sum256(d.Baseline))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Key is a release key that is the same in every run.
func Key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// KeyPEM is the public part of a key.
func KeyPEM(t testing.TB, key ed25519.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Baseline is the baseline that holds these programs.
func Baseline(t testing.TB, programs ...Measured) []byte {
	t.Helper()
	programs = slices.Clone(programs)
	slices.SortFunc(programs, func(a, b Measured) int { return baseline.ComparePaths(a.Path, b.Path) })
	var out bytes.Buffer
	w, err := baseline.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		e := baseline.Entry{Path: p.Path, Type: baseline.File, Mode: 0o755, Size: 1, SHA256: p.Digest, Flags: baseline.Exec}
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Replay gives all registers as a log leaves them.
func Replay(t testing.TB, log []byte) pcr.Values {
	t.Helper()
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	bank, err := l.Replay(pcr.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	values := make(pcr.Values, pcr.Count)
	for i := range pcr.Count {
		values[i] = bank.Value(i)
	}
	return values
}

// ReplayList gives PCR 10 as a list leaves it.
func ReplayList(t testing.TB, list []byte) pcr.Digest {
	t.Helper()
	dec, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	replay, err := ima.NewReplay(pcr.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := dec.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return replay.Value()
		}
		if err := replay.Add(e); err != nil {
			t.Fatal(fmt.Errorf("entry %d: %w", e.Index, err))
		}
	}
}
