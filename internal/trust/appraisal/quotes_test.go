package appraisal_test

import (
	"bytes"
	"slices"
	"testing"

	"ward/internal/format/chain"
	"ward/internal/format/ima"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
	"ward/internal/trust/quote"
	"ward/internal/trust/quote/quotetest"
)

// asked is a question with the head of a record.
var asked = []byte("a nonce of the fleet, used once.")

var record = evidence.Record{Epoch: 1, Sequence: 9, Head: chain.Hash{1, 2, 3}}

// Evidence that is old, replayed, mixed from two boots or quoted by another key
// has a finding of its own each, and none is a pass.
//
// Verifies: SR-001 SR-007 SR-095
func TestQuotes(t *testing.T) {
	const n, w, c = appraisal.None, appraisal.Warning, appraisal.Contraindicated
	for _, test := range []struct {
		name   string
		change func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy)
		tier   appraisal.Tier
		codes  []finding.Code
	}{
		{"honest", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {}, appraisal.Affirming, nil},
		{"another question was asked", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Nonce = []byte("another")
		}, c, []finding.Code{finding.QuoteNonce, finding.QuoteNonce}},
		{"the nonce beside the quotes is another", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Nonce, e.Nonce = nil, []byte("another")
		}, c, []finding.Code{finding.QuoteNonce, finding.QuoteNonce}},
		{"the record beside the quotes is another", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.Record.Head[0] ^= 1
		}, c, []finding.Code{finding.QuoteNonce, finding.QuoteNonce}},
		{"the posture beside the quotes is another", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.Posture = []posture.Claim{{Name: "kernel.lockdown", Values: []string{"integrity"}}}
		}, c, []finding.Code{finding.QuoteNonce, finding.QuoteNonce}},
		{"a component that ran is left out beside the quotes", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.Running = []byte{3}
			d.Quote(t, e)
			e.Running = []byte{1}
		}, c, []finding.Code{finding.QuoteNonce, finding.QuoteNonce}},
		{"honest, with posture", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.Posture, e.Running = []posture.Claim{{Name: "kernel.lockdown", Values: []string{"integrity"}}}, []byte{3}
			d.Quote(t, e)
		}, appraisal.Affirming, nil},
		{"another key", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			d.AK = quotetest.Key(t)
			d.Quote(t, e)
		}, c, []finding.Code{finding.QuoteOtherKey, finding.QuoteOtherKey}},
		{"one quote by another key", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			honest := e.BootQuote
			d.AK = quotetest.Key(t)
			d.Quote(t, e)
			e.BootQuote = honest
		}, c, []finding.Code{finding.QuoteOtherKey}},
		{"no key is known", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) { p.AK = nil }, n, []finding.Code{finding.QuoteMissing}},
		{"no quote", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.BootQuote, e.ListQuote, e.QuoteError = evidence.Quote{}, evidence.Quote{}, "the TPM is busy"
		}, n, []finding.Code{finding.QuoteMissing}},
		{"no quote of PCR 10", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.ListQuote = evidence.Quote{}
		}, n, []finding.Code{finding.QuoteMissing}},
		{"a quote that is none", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.BootQuote.Attest = []byte("not a quote")
		}, n, []finding.Code{finding.QuoteUnreadable}},
		{"a register beside the quote is another", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.PCRs = clone(e.PCRs)
			e.PCRs[4][0] ^= 1
		}, c, []finding.Code{finding.QuoteRegisters}},
		{"the quotes change places", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			e.BootQuote, e.ListQuote = e.ListQuote, e.BootQuote
		}, c, []finding.Code{finding.QuoteRegisters, finding.QuoteRegisters}},
		{"of two boots", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			boot := e.BootQuote
			d.Clock.ResetCount++
			d.Quote(t, e)
			e.BootQuote = boot
		}, c, []finding.Code{finding.QuoteMixed}},
		{"the list's quote first", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			list := e.ListQuote
			d.Clock.Milliseconds++
			d.Quote(t, e)
			e.ListQuote = list
		}, c, []finding.Code{finding.QuoteMixed}},
		{"of another device", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Device = &appraisal.Name{Tenant: "lab", Device: "paper-2"}
		}, c, []finding.Code{finding.EvidenceForeign}},
		{"of this device", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Device = &appraisal.Name{Tenant: "lab", Device: "paper-1"}
		}, appraisal.Affirming, nil},
		{"read by own hands, without a quote", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			*e, p.Direct, p.Nonce = d.Evidence(), true, nil
		}, w, []finding.Code{finding.QuoteMissing}},
		{"read by own hands, and another key quotes", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Direct = true
			d.AK = quotetest.Key(t)
			d.Quote(t, e)
		}, c, []finding.Code{finding.QuoteOtherKey, finding.QuoteOtherKey}},
		// What earlier evidence has established.
		{"the clock stands behind", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Since = &appraisal.Since{Boot: "boot-1", Clock: later(d.Clock)}
		}, c, []finding.Code{finding.QuoteReplayed}},
		{"the same evidence once more", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Since = appraise(t, d, *e).Next
			p.Since.Clock = d.Clock
			d.Clock.Milliseconds -= 100
			d.Quote(t, e)
		}, c, []finding.Code{finding.QuoteReplayed}},
		{"the clock stands behind that of an earlier boot", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			known := later(d.Clock)
			known.ResetCount--
			p.Since = &appraisal.Since{Boot: "boot-0", Clock: known}
		}, c, []finding.Code{finding.QuoteReplayed}},
		{"the clock lost time with the power, and says so", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			known := later(d.Clock)
			known.ResetCount--
			p.Since = &appraisal.Since{Boot: "boot-0", Clock: known}
			d.Clock.Safe = false
			d.Quote(t, e)
		}, appraisal.Affirming, nil},
		{"the record stands behind", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Since = &appraisal.Since{Boot: "boot-1", Clock: earlier(d.Clock), Epoch: 1, Sequence: 10}
		}, c, []finding.Code{finding.QuoteReplayed}},
		{"the record begins anew", func(t *testing.T, d *appraisaltest.Device, e *evidence.Evidence, p *appraisal.Policy) {
			p.Since = &appraisal.Since{Boot: "boot-1", Clock: earlier(d.Clock), Epoch: 0, Sequence: 10}
		}, appraisal.Affirming, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := appraisaltest.New(t)
			e, p := d.Quoted(t, asked, record), d.Policy(t)
			p.Nonce = asked
			test.change(t, d, &e, &p)
			r := appraisal.Appraise(e, d.Verified(t), p, now)
			wantVerdict(t, r, test.tier, test.codes...)
			if vouched := r.Claims[appraisal.ClaimQuote] == appraisal.Affirming; vouched != (r.Next != nil) {
				t.Errorf("claim %s, and it establishes %+v", r.Claims[appraisal.ClaimQuote], r.Next)
			}
		})
	}
}

func later(c quote.Clock) quote.Clock { c.Milliseconds++; return c }

func earlier(c quote.Clock) quote.Clock { c.Milliseconds--; return c }

func clone[M ~map[int]V, V ~[]byte](m M) M {
	out := make(M)
	for k, v := range m {
		out[k] = bytes.Clone(v)
	}
	return out
}

// Registers that no quote vouches for are not judged: what the evidence says of
// them reaches no state and no finding.
//
// Verifies: SR-007
func TestUnquotedRegistersAreNotJudged(t *testing.T) {
	d := appraisaltest.New(t)
	e := d.Evidence()
	r := appraisal.Appraise(e, d.Verified(t), d.Policy(t), now)
	wantVerdict(t, r, appraisal.None, finding.QuoteMissing)
	for n, p := range r.PCRs {
		if len(p.Measured) > 0 || p.State == appraisal.Matches {
			t.Errorf("PCR %d: %s of %s", n, p.State, p.Measured)
		}
	}
}

// Pitfall 8. After hibernation the kernel that woke up hands out the logs of the
// boot before: stale, not tampered, and not a pass. After sleep, when the TPM
// kept its registers, the logs still explain them.
//
// Verifies: SR-007
func TestPitfall8Hibernation(t *testing.T) {
	d := appraisaltest.New(t)
	known := appraise(t, d, d.Evidence()).Next

	woken := appraisaltest.Booted(t, appraisaltest.Log(append(appraisaltest.Events(), cmdline("resume"))...), appraisaltest.Program("/usr/bin/pump"))
	woken.Log, woken.List, woken.AK = d.Log, d.List, d.AK
	woken.Clock = quote.Clock{Milliseconds: d.Clock.Milliseconds + 1000, ResetCount: d.Clock.ResetCount + 1, Safe: true}
	woken.PCRs[0] = bytes.Repeat([]byte{7}, 32)
	policy := d.Policy(t)
	policy.Since = known
	r := appraisal.Appraise(woken.Quoted(t, asked, evidence.Record{}), d.Verified(t), policy, now)
	wantVerdict(t, r, appraisal.None, finding.LogStale)
	if r.Claims[appraisal.ClaimQuote] != appraisal.Affirming || r.Claims[appraisal.ClaimBoot] != appraisal.None {
		t.Errorf("claims %v", r.Claims)
	}
	// Without the change of the counts it is what it looks like.
	woken.Clock.ResetCount, woken.Clock.RestartCount = d.Clock.ResetCount, d.Clock.RestartCount
	r = appraisal.Appraise(woken.Quoted(t, asked, evidence.Record{}), d.Verified(t), policy, now)
	if r.Verdict != appraisal.Contraindicated || !slices.Contains(codes(r), finding.BootPCRUnexplained) {
		t.Errorf("without a new start of the TPM: %s with %v", r.Verdict, codes(r))
	}
	// Sleep: restarted, registers kept.
	d.Clock.Milliseconds, d.Clock.RestartCount = d.Clock.Milliseconds+1000, d.Clock.RestartCount+1
	r = appraisal.Appraise(d.Quoted(t, asked, evidence.Record{}), d.Verified(t), policy, now)
	wantVerdict(t, r, appraisal.Affirming)
}

// Pitfall 7. The quote comes first, the list second: entries that were added in
// between are accepted, and how far PCR 10 confirms the list is what later
// evidence may go on from.
func TestPitfall7EntriesAfterTheQuote(t *testing.T) {
	d := appraisaltest.New(t)
	e := d.Quoted(t, asked, record)
	e.IMA = append(bytes.Clone(e.IMA), appraisaltest.Program("/usr/bin/pump").Bytes()...)
	r := appraisal.Appraise(e, d.Verified(t), d.Policy(t), now)
	wantVerdict(t, r, appraisal.Affirming)
	if r.IMAEntries != 4 || r.Next.List.Entries != 3 || !bytes.Equal(r.Next.List.PCR, d.PCRs[ima.Register]) {
		t.Errorf("%d entries, confirmed %+v", r.IMAEntries, r.Next.List)
	}
}
