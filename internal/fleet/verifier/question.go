package verifier

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/receipt"
	"ward/internal/trust/verdict"
)

const (
	// maxOver is how many nonces of one device are remembered that are over.
	maxOver = 16
	// maxIssued is how many nonces of all devices are remembered, to notice a
	// source of randomness that repeats itself.
	maxIssued = 4096
	// firstPatience is the wait after the first question without an answer; each
	// one after that is twice as long, up to the usual wait.
	firstPatience = time.Minute
)

// errNonce: nobody is asked with a nonce that was used before (CVE-2026-6420 is
// about a constant one, which every functional test lets pass).
var errNonce = errors.New("the source of random numbers repeats itself")

// nonces makes nonces.
type nonces struct {
	random io.Reader
	issued []pcr.Digest // the oldest first
	seen   map[[receipt.NonceSize]byte]bool
}

// next reads a nonce that differs from those issued before.
func (n *nonces) next() (pcr.Digest, error) {
	var b [receipt.NonceSize]byte
	if _, err := io.ReadFull(n.random, b[:]); err != nil {
		return nil, fmt.Errorf("make nonce: %w", err)
	}
	if n.seen[b] {
		return nil, fmt.Errorf("make nonce: %w", errNonce)
	}
	if n.seen == nil {
		n.seen = make(map[[receipt.NonceSize]byte]bool)
	}
	if len(n.issued) == maxIssued {
		delete(n.seen, [receipt.NonceSize]byte(n.issued[0]))
		n.issued = slices.Delete(n.issued, 0, 1)
	}
	n.seen[b] = true
	n.issued = append(n.issued, b[:])
	return b[:], nil
}

// question is one that waits for its answer.
type question struct {
	Nonce   pcr.Digest `json:"nonce"`
	Expires time.Time  `json:"expires"`
	// Partial says that it names what is held here, so that an answer may leave
	// things out.
	Partial bool `json:"partial,omitempty"`
}

// past is a nonce that is over, and why.
type past struct {
	nonce    pcr.Digest
	answered bool // else it expired
}

func (v *Verifier) wantsAsking(now time.Time, d *device) bool {
	return v.config.ChallengeKey != nil && d.online && d.Question == nil && !now.Before(d.next) &&
		(d.asked.IsZero() || now.Sub(d.asked) >= questionGap)
}

// ask makes a question. Of a boot of which something is held, it says what.
func (v *Verifier) ask(now time.Time, d *device) (verdict.Question, error) {
	nonce, err := v.nonces.next()
	if err != nil {
		return verdict.Question{}, err
	}
	v.key(now, d) // of another TPM, since it was replaced, nothing is held
	c := receipt.Challenge{Tenant: d.tenant, Device: d.name, Nonce: nonce, Issued: now, Expires: now.Add(v.config.Lifetime)}
	if s := d.Since; s != nil && s.Boot == d.boot && !d.whole {
		c.Boot, c.List = s.Boot, s.List
		if v.logs.held(d.log) != nil {
			c.EventLog = d.log
		}
	}
	envelope, err := receipt.SignChallenge(c, v.config.ChallengeKey)
	if err != nil {
		return verdict.Question{}, fmt.Errorf("ask %s of %s: %w", d.name, d.tenant, err)
	}
	d.Question = &question{Nonce: nonce, Expires: c.Expires, Partial: c.Boot != ""}
	d.asked, d.whole, d.excused, v.changed = now, false, false, true
	return verdict.Question{Tenant: d.tenant, Device: d.name, Envelope: envelope}, nil
}

// expired ends a question that was not answered in time. A device that was not
// there all the while is asked again: its silence has a finding of its own.
func (v *Verifier) expired(now time.Time, d *device) []verdict.Statement {
	expires := d.Question.Expires
	d.end(d.Question, false)
	v.changed = true
	if d.excused {
		d.next = now
		return nil
	}
	d.next = now.Add(min(firstPatience<<min(d.misses, 16), v.config.Every))
	d.misses++
	if d.Missing {
		return nil
	}
	d.Missing = true
	f := finding.New(finding.LinkEvidenceMissing, fmt.Sprintf("the question expired at %s", expires.UTC().Format(time.RFC3339)))
	return []verdict.Statement{d.state(&f)}
}

// answers decides whether evidence answers the question that waits, and ends that
// question. A nil finding says that it does, or that nobody's question is in it.
func (v *Verifier) answers(d *device, e evidence.Evidence) *finding.Finding {
	if len(e.Nonce) == 0 {
		return nil
	}
	if q := d.Question; q != nil && bytes.Equal(q.Nonce, e.Nonce) {
		d.end(q, true)
		v.changed = true
		return nil
	}
	f := finding.New(finding.QuoteNonce, "the fleet never asked this question")
	for _, p := range d.over {
		switch {
		case !bytes.Equal(p.nonce, e.Nonce):
		case p.answered:
			f = finding.New(finding.QuoteNonce, "the question was answered before")
		default:
			f = finding.New(finding.LinkEvidenceMissing, "the answer came after the question had expired")
		}
	}
	return &f
}

// end makes the question one of the past.
func (d *device) end(q *question, answered bool) {
	if len(d.over) == maxOver {
		d.over = slices.Delete(d.over, 0, 1)
	}
	d.over = append(d.over, past{q.Nonce, answered})
	d.Question = nil
}
