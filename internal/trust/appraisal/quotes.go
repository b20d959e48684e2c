package appraisal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/quote"
)

// Since is what an earlier appraisal of the same device has established, to hold
// later evidence against. Result.Next is the one to keep.
type Since struct {
	Boot     string         `json:"boot"`     // the kernel's boot id
	Clock    quote.Clock    `json:"clock"`    // of the later quote
	List     ima.Checkpoint `json:"list"`     // how far the IMA list was verified
	Epoch    uint64         `json:"epoch"`    // of the device's journal
	Sequence uint64         `json:"sequence"` // of its last record
}

// vouched is what the quotes establish.
type vouched struct {
	registers pcr.Values   // those that may be judged
	clock     *quote.Clock // of the later quote; nil when no quote was verified
	stale     bool         // the TPM was started anew since the kernel took over the logs
}

// judgeQuotes decides which registers may be judged. What is checked, in this
// order:
//
//  1. an attestation key is known and both quotes are there (boot.quote-missing);
//  2. each is signed by that key (boot.quote-other-key), is a quote and nothing
//     else (boot.quote-unreadable), answers the question that was asked with the
//     head of the record and the claims beside it (boot.quote-nonce), and is over one bank and
//     registers whose values stand beside it (boot.quote-registers); the boot
//     quote leaves PCR 10 out, the list quote is over PCR 10 alone;
//  3. both are of one boot of the TPM, the boot quote first (boot.quote-mixed);
//  4. the TPM's clock is later than what was established before, and the record
//     does not stand behind it (boot.quote-replayed);
//  5. within one boot of the kernel the TPM was not started anew, else the logs
//     may be stale.
//
// Whoever reads the registers from the TPM with his own hands (Policy.Direct)
// needs no quote to judge them: without one the claim is a warning, and a quote
// that is there and wrong counts as it does elsewhere.
func judgeQuotes(res *Result, e evidence.Evidence, p Policy) vouched {
	v := vouched{}
	if p.Direct {
		v.registers = e.PCRs
	}
	res.lower(ClaimQuote, None)
	if p.AK == nil || e.BootQuote.Empty() || e.ListQuote.Empty() {
		if p.Direct {
			res.Claims[ClaimQuote] = Warning
		}
		res.find(finding.New(finding.QuoteMissing, quoteMissing(e, p)))
		return v
	}
	nonce := p.Nonce
	if len(nonce) == 0 {
		nonce = e.Nonce
	}
	question := quote.Qualifying(nonce, e.Record.Head, e.Claims())
	boot, err := verifyQuote(e.BootQuote, e, p, question, func(n int) bool { return n != ima.Register })
	list, listErr := verifyQuote(e.ListQuote, e, p, question, func(n int) bool { return n == ima.Register })
	if err != nil || listErr != nil {
		res.quoteFailed("boot quote", err)
		res.quoteFailed("list quote", listErr)
		return v
	}
	if !judgeClocks(res, &v, e, p, boot.Clock(), list.Clock()) {
		return v
	}
	res.Claims[ClaimQuote] = Affirming
	clock := list.Clock()
	v.clock = &clock
	if !p.Direct {
		v.registers = boot.Values()
		maps.Copy(v.registers, list.Values())
	}
	return v
}

func quoteMissing(e evidence.Evidence, p Policy) string {
	switch {
	case e.QuoteError != "":
		return e.QuoteError
	case p.AK == nil:
		return "no attestation key of this device is known"
	}
	return "the evidence holds no quote of PCR 10 and one of the others"
}

// verifyQuote verifies one quote over the registers that belong to it.
func verifyQuote(q evidence.Quote, e evidence.Evidence, p Policy, question [32]byte, belongs func(int) bool) (quote.Verified, error) {
	bank, registers, err := quote.Untrusted(quote.Quote(q))
	if err != nil {
		return quote.Verified{}, err
	}
	values := make(pcr.Values, len(registers))
	for _, n := range registers {
		if !belongs(n) {
			return quote.Verified{}, fmt.Errorf("%w: it is about PCR %d", quote.ErrSelection, n)
		}
		values[n] = e.PCRs[n]
	}
	if bank != e.Bank {
		return quote.Verified{}, fmt.Errorf("%w: of bank %s, want %s", quote.ErrSelection, bank, e.Bank)
	}
	return quote.Verify(quote.Quote(q), p.AK, question, e.Bank, values)
}

// quoteFailures are the findings and tiers of what can be wrong with a quote. A
// signature by another key and an answer to another question are signs of an
// attack; what cannot be read says nothing.
var quoteFailures = []struct {
	err  error
	code finding.Code
	tier Tier
}{
	{quote.ErrSignature, finding.QuoteOtherKey, Contraindicated},
	{quote.ErrNonce, finding.QuoteNonce, Contraindicated},
	{quote.ErrSelection, finding.QuoteRegisters, Contraindicated},
	{quote.ErrRegisters, finding.QuoteRegisters, Contraindicated},
	{quote.ErrMalformed, finding.QuoteUnreadable, None},
}

func (r *Result) quoteFailed(which string, err error) {
	if err == nil {
		return
	}
	for _, f := range quoteFailures {
		if errors.Is(err, f.err) {
			r.lower(ClaimQuote, f.tier)
			r.find(finding.New(f.code, fmt.Sprintf("%s: %v", which, err)))
			return
		}
	}
	r.find(finding.New(finding.QuoteUnreadable, fmt.Sprintf("%s: %v", which, err)))
}

// judgeClocks is steps 3 to 5 of judgeQuotes; false when the quotes do not count.
func judgeClocks(res *Result, v *vouched, e evidence.Evidence, p Policy, boot, list quote.Clock) bool {
	if !sameStart(boot, list) || list.Milliseconds < boot.Milliseconds {
		res.lower(ClaimQuote, Contraindicated)
		res.find(finding.New(finding.QuoteMixed, "the quote of PCR 10 is not of the same start of the TPM as the quote before it, or is older").
			Want(clockText(boot), clockText(list)))
		return false
	}
	known := p.Since
	if known == nil {
		return true
	}
	// A TPM that lost power without a shutdown may give clock values again that
	// it gave before; it says so (Part 1, section 36.2), and within one start it
	// never does.
	if boot.Milliseconds <= known.Clock.Milliseconds && (boot.Safe || sameStart(boot, known.Clock)) {
		res.lower(ClaimQuote, Contraindicated)
		res.find(finding.New(finding.QuoteReplayed, "the TPM's clock is not later than that of earlier evidence").
			Want(clockText(known.Clock), clockText(boot)))
		return false
	}
	if behind(e.Record, known) {
		res.lower(ClaimQuote, Contraindicated)
		res.find(finding.New(finding.QuoteReplayed, "the device's record stands behind that of earlier evidence").
			Want(recordText(known.Epoch, known.Sequence), recordText(e.Record.Epoch, e.Record.Sequence)))
		return false
	}
	v.stale = known.Boot == e.Boot && !sameStart(boot, known.Clock)
	return true
}

// sameStart tells whether two clocks are of the same start of a TPM: for a key
// outside the endorsement hierarchy both counts are obfuscated, and can be
// compared for equality alone (Part 1, section 36.7).
func sameStart(a, b quote.Clock) bool {
	return a.ResetCount == b.ResetCount && a.RestartCount == b.RestartCount
}

// behind tells a record that stands behind what was known. Evidence without a
// record, of a device whose journal fails, says nothing about it.
func behind(r evidence.Record, known *Since) bool {
	return r.Sequence > 0 && (r.Epoch < known.Epoch || r.Epoch == known.Epoch && r.Sequence < known.Sequence)
}

func clockText(c quote.Clock) string {
	return fmt.Sprintf("reset %08x, restart %08x, clock %d ms", c.ResetCount, c.RestartCount, c.Milliseconds)
}

func recordText(epoch, sequence uint64) string {
	return fmt.Sprintf("record %d of epoch %d", sequence, epoch)
}

// judgeStale ends the appraisal of evidence whose logs are of an earlier start of
// the TPM, if they do not explain the registers: after hibernation the kernel
// that woke up hands out the logs of the boot before, and neither log nor
// register says anything about tampering. true when it did.
func judgeStale(res *Result, v vouched, bank pcr.Algorithm, replayed *pcr.Bank) bool {
	if !v.stale || replayed == nil || explains(replayed, bank, v.registers) {
		return false
	}
	for _, c := range []Claim{ClaimEventLog, ClaimPCRs, ClaimBoot, ClaimRuntime} {
		res.Claims[c] = None
	}
	for n, value := range v.registers {
		res.PCRs[n] = PCRResult{Measured: value, Replayed: replayed.Value(n), State: Unexplained}
	}
	res.find(finding.New(finding.LogStale, "the kernel's boot id is the same, and the TPM was started anew since"))
	return true
}

// explains tells whether a replay gives the registers of the firmware.
func explains(replayed *pcr.Bank, bank pcr.Algorithm, registers pcr.Values) bool {
	for n := range lastFirmware + 1 {
		held := registers[n]
		if len(held) > 0 && !bytes.Equal(held, replayed.Value(n)) && !(pcr.IsReset(bank, n, held) && !replayed.Extended(n)) {
			return false
		}
	}
	return true
}
