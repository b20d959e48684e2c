package attester

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"ward/internal/device/securityfs"
	"ward/internal/device/tpm"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/quote"
	"ward/internal/trust/release"
)

// maxQuotes bounds how often registers are quoted anew because one was extended
// while they were read.
const maxQuotes = 5

// errMoving: registers were extended at every attempt to quote them.
var errMoving = fmt.Errorf("registers were extended while they were quoted, %d times", maxQuotes)

// errNoTPM stands for a TPM that was not given.
var errNoTPM = fmt.Errorf("quote: %w", tpm.ErrAbsent)

// newNonce is a question of the device to its own TPM.
func newNonce() []byte {
	nonce := make([]byte, 32)
	rand.Read(nonce) // never fails: it ends the program where the kernel has no randomness
	return nonce
}

// collected is evidence whose IMA list is still to be read.
type collected struct {
	evidence evidence.Evidence
	ak       *ecdsa.PublicKey // nil: the TPM has none, or no quote could be made
	again    bool             // the TPM may do at another time what it did not do now
	findings []finding.Finding
	tpm      time.Duration // spent waiting for the TPM
}

// collect reads the logs, then has the TPM quote the registers, so that the IMA
// list that is read after it covers at least what they do.
func (a *Attester) collect(ctx context.Context, nonce []byte, r *release.Verified) collected {
	c := collected{evidence: evidence.Evidence{
		Tenant: a.config.Tenant, Device: a.config.Device, Boot: a.config.Boot, Time: time.Now().UTC(), Nonce: nonce, Record: a.config.Head(), Bank: Bank,
	}}
	if r != nil {
		digest := r.Digest()
		c.evidence.Release = digest[:]
	}
	if a.config.Running != nil {
		c.evidence.Running = a.config.Running()
	}
	if a.config.Posture != nil {
		c.evidence.SetPosture(a.config.Posture())
	}
	log, err := securityfs.ReadEventLog(a.config.SecurityFS)
	c.evidence.EventLog, c.evidence.EventLogError = log, reason(err)
	if a.config.UserLogFS != nil {
		log, err := securityfs.ReadUserLog(a.config.UserLogFS)
		if !errors.Is(err, fs.ErrNotExist) { // most systems write none
			c.evidence.UserLog, c.evidence.UserLogError = log, reason(err)
		}
	}
	began := time.Now()
	a.collectRegisters(ctx, &c, quoted(r))
	c.tpm = time.Since(began)
	return c
}

// quoted lists the registers of the boot quote: the usual ones, and whatever else
// the release judges.
func quoted(r *release.Verified) []int {
	registers := slices.Clone(evidence.BootRegisters)
	for n, ref := range r.Manifest().Boot.PCRs {
		if ref.Mode != release.Recorded && n != ima.Register && !slices.Contains(registers, n) {
			registers = append(registers, n)
		}
	}
	slices.Sort(registers)
	return registers
}

// quotedDigest is the pcrDigest of the boot quote.
func quotedDigest(e evidence.Evidence, r *release.Verified) pcr.Digest {
	if len(e.BootQuote.Attest) == 0 {
		return nil
	}
	h := sha256.New()
	for _, n := range quoted(r) {
		h.Write(e.PCRs[n])
	}
	return h.Sum(nil)
}

// maxReason bounds why something could not be read, in bytes.
const maxReason = 500

// reason is why a part could not be read, in the form that evidence asks for.
func reason(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		text = fmt.Sprintf("%s: %v", evidence.Absent, err)
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}

// collectRegisters has the TPM quote the registers. Where it does not, they are
// read: from the TPM, and where that fails as the kernel shows them; the TPM's
// failure stays a finding.
func (a *Attester) collectRegisters(ctx context.Context, c *collected, registers []int) {
	err := a.quote(ctx, c, registers)
	if err == nil {
		return
	}
	c.evidence.PCRs, c.evidence.BootQuote, c.evidence.ListQuote, c.ak = nil, evidence.Quote{}, evidence.Quote{}, nil
	c.evidence.QuoteError = reason(err)
	c.again = !errors.Is(err, tpm.ErrAbsent) && !errors.Is(err, tpm.ErrNoKey)
	if c.evidence.PCRs, err = a.readRegisters(ctx, append(slices.Clone(registers), ima.Register)); err == nil {
		return
	}
	c.evidence.PCRs = nil
	code := finding.TPMFailing
	if errors.Is(err, tpm.ErrAbsent) {
		code = finding.TPMAbsent
	}
	values, sysErr := securityfs.ReadPCRs(a.config.SysFS, Bank)
	if sysErr != nil {
		c.evidence.PCRError = reason(fmt.Errorf("%w; %w", err, sysErr))
		c.findings = append(c.findings, finding.New(code, err.Error()))
		return
	}
	c.evidence.PCRs = values
	c.findings = append(c.findings, finding.New(code, fmt.Sprintf("%v; the registers were read from the kernel's files instead", err)))
}

func (a *Attester) readRegisters(ctx context.Context, registers []int) (pcr.Values, error) {
	if a.config.TPM == nil {
		return nil, errNoTPM
	}
	return a.config.TPM.ReadPCRs(ctx, Bank, registers)
}

// quote has the TPM quote the registers and, apart, PCR 10.
func (a *Attester) quote(ctx context.Context, c *collected, registers []int) error {
	if a.config.TPM == nil {
		return errNoTPM
	}
	ak, err := a.config.TPM.AttestationKey(ctx)
	if err != nil {
		return err
	}
	c.ak = ak
	boot, values, err := a.quoteOnce(ctx, c, registers)
	if err != nil {
		return err
	}
	c.evidence.BootQuote, c.evidence.PCRs = boot, values
	return a.quoteList(ctx, c)
}

func (a *Attester) quoteList(ctx context.Context, c *collected) error {
	list, values, err := a.quoteOnce(ctx, c, []int{ima.Register})
	if err != nil {
		return err
	}
	c.evidence.ListQuote = list
	maps.Copy(c.evidence.PCRs, values)
	return nil
}

// quoteOnce asks for one quote until the values that were read after it are those
// that it signs.
func (a *Attester) quoteOnce(ctx context.Context, c *collected, registers []int) (evidence.Quote, pcr.Values, error) {
	question := quote.Qualifying(c.evidence.Nonce, c.evidence.Record.Head, c.evidence.Claims())
	for range maxQuotes {
		q, values, err := a.config.TPM.Quote(ctx, question, Bank, registers)
		if err != nil {
			return evidence.Quote{}, nil, err
		}
		if _, err = quote.Verify(q, c.ak, question, Bank, values); err == nil {
			return evidence.Quote(q), values, nil
		}
		if !errors.Is(err, quote.ErrRegisters) {
			return evidence.Quote{}, nil, err
		}
	}
	return evidence.Quote{}, nil, errMoving
}

// requote asks for PCR 10 alone once more; false when that cannot help: the
// register is where it was, so the list that is there is all there is.
func (a *Attester) requote(ctx context.Context, c *collected) bool {
	before := c.evidence.PCRs[ima.Register]
	began := time.Now()
	defer func() { c.tpm += time.Since(began) }()
	if c.ak != nil {
		if err := a.quoteList(ctx, c); err != nil {
			return false
		}
	} else {
		values, err := a.readRegisters(ctx, []int{ima.Register})
		if err != nil {
			if values, err = securityfs.ReadPCRs(a.config.SysFS, Bank); err != nil {
				return false
			}
		}
		c.evidence.PCRs[ima.Register] = values[ima.Register]
	}
	return !bytes.Equal(before, c.evidence.PCRs[ima.Register])
}

// imaList is the kernel's list as a stream; an empty one where there is none.
type imaList struct {
	io.Reader
	truncated func() bool
	close     func()
}

// openList opens the IMA list; why it cannot be opened stands in the evidence.
func (a *Attester) openList(c *collected) imaList {
	list, err := securityfs.OpenIMA(a.config.SecurityFS)
	if c.evidence.IMAError = reason(err); err != nil {
		return imaList{bytes.NewReader(nil), func() bool { return false }, func() {}}
	}
	return imaList{list, list.Truncated, func() {
		if err := list.Close(); err != nil {
			a.config.Log.Warn("close IMA list", "error", err)
		}
	}}
}
