// Package anchortest gives tests the journal's counters in a software TPM (swtpm,
// TPM 2.0 Library Specification): those of an honest device, and those of somebody
// with root's rights on it, who may use the same TPM and knows the authorisation
// value, but cannot take a value that has passed.
package anchortest

import (
	"context"
	"crypto/ecdsa"
	"testing"

	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/format/pcr"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Chip is a TPM with an attestation key and the two counters, as manufacture
// leaves it.
type Chip struct {
	TPM  *tpm.TPM
	AK   *ecdsa.PublicKey
	Auth []byte

	power *swtpmtest.TPM
}

// New runs a software TPM until the test ends.
func New(t testing.TB) *Chip {
	t.Helper()
	c := &Chip{power: swtpmtest.Start(t, false), Auth: tpm.NewAuth()}
	c.open(t)
	t.Cleanup(func() { c.TPM.Close() })
	keys, err := c.TPM.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.AK = keys.AK.Public
	for _, durable := range []bool{false, true} {
		if err := c.TPM.DefineNV(t.Context(), tpm.JournalCounter(durable), c.Auth); err != nil {
			t.Fatal(err)
		}
		if _, err := c.TPM.Increment(t.Context(), tpm.JournalCounter(durable), c.Auth); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *Chip) open(t testing.TB) {
	t.Helper()
	var err error
	if c.TPM, err = tpm.Open(c.power.Socket); err != nil {
		t.Fatal(err)
	}
}

// Cut cuts the TPM's power and starts it anew, as a device's power cut does.
func (c *Chip) Cut(t testing.TB) {
	t.Helper()
	c.TPM.Close()
	c.power.Off()
	if err := c.power.On(); err != nil {
		t.Fatal(err)
	}
	c.open(t)
}

// Key is the attestation key.
func (c *Chip) Key(context.Context) (*ecdsa.PublicKey, error) { return c.AK, nil }

// Certify certifies the value at which a counter stands.
func (c *Chip) Certify(ctx context.Context, counter checkpoint.Counter, qualifying [32]byte) (attest, signature []byte, err error) {
	index, _ := counter.Index()
	certified, err := c.TPM.CertifyCounter(ctx, index, c.Auth, qualifying)
	return certified.Attest, certified.Signature, err
}

// Step steps a counter.
func (c *Chip) Step(ctx context.Context, counter checkpoint.Counter) error {
	index, _ := counter.Index()
	_, err := c.TPM.Increment(ctx, index, c.Auth)
	return err
}

// Value is where a counter stands.
func (c *Chip) Value(t testing.TB, counter checkpoint.Counter) uint64 {
	t.Helper()
	index, _ := counter.Index()
	n, err := c.TPM.ReadCounter(t.Context(), index, c.Auth)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Report certifies a place in a device's record.
func (c *Chip) Report(t testing.TB, counter checkpoint.Counter, source event.Source, p checkpoint.Place, evidence pcr.Digest) checkpoint.Report {
	t.Helper()
	attest, signature, err := c.Certify(t.Context(), counter, checkpoint.Qualifying(source, p, evidence))
	if err != nil {
		t.Fatal(err)
	}
	value, err := checkpoint.UntrustedValue(attest)
	if err != nil {
		t.Fatal(err)
	}
	return checkpoint.Report{Counter: counter, Value: value, Sequence: p.Sequence, Head: p.Head, Evidence: evidence, Attest: attest, Signature: signature}
}

// Event certifies a place and steps the counter behind it, as the device does.
func (c *Chip) Event(t testing.TB, counter checkpoint.Counter, source event.Source, p checkpoint.Place, evidence pcr.Digest) event.Event {
	t.Helper()
	e := Event(t, c.Report(t, counter, source, p, evidence))
	if err := c.Step(t.Context(), counter); err != nil {
		t.Fatal(err)
	}
	return e
}

// Event is a report as an event.
func Event(t testing.TB, r checkpoint.Report) event.Event {
	t.Helper()
	b, err := checkpoint.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return event.Event{Type: event.Checkpoint, Subject: "journal", Severity: finding.Info, Report: b}
}
