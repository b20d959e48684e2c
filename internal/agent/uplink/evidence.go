package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/pcr"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
	"ward/internal/trust/rotation"
)

const (
	// DefaultEvidenceEvery is the wait between two documents that nobody asked for.
	DefaultEvidenceEvery = 6 * time.Hour
	// firstEvidence is how long after the first connection evidence goes up that
	// nobody asked for: a fleet that listens asks before that, and one answer
	// serves both.
	firstEvidence = 10 * time.Second
	// evidenceRetry is the wait after evidence that nobody asked for was lost.
	evidenceRetry = 5 * time.Minute
	// questionEvery is how often a question is taken at most: each costs the TPM
	// two signatures.
	questionEvery = 10 * time.Second
	// maxAnswered is how many nonces are remembered, so that none is answered
	// twice: those of the last 40 minutes at least.
	maxAnswered = 256
	// maxParts is how many parts of a document may wait for the broker's
	// acknowledgement, and fastAck how soon that must come for more than one to
	// do so: on a slow link an event must not stand in line behind many parts.
	maxParts = 4
	fastAck  = time.Second
	// floodAfter is how many questions within floodTime may be left unanswered
	// because they came too fast, before that is a finding.
	floodAfter = 12
	floodTime  = time.Minute
)

// Attester makes an evidence document in answer to a question of the fleet, or
// for a nil one that nobody asked for. It is called by one goroutine at a time.
type Attester interface {
	Evidence(ctx context.Context, c *receipt.Challenge) ([]byte, error)
}

// prover decides which questions are answered and when evidence goes up unasked.
// It outlives connections; a document does not: what is lost with a connection
// the fleet asks for again.
type prover struct {
	free       chan struct{} // holds one token while no evidence is being made
	due        time.Time     // when evidence goes up unasked; zero before the first connection
	taken      time.Time     // when a question was taken last
	answered   []pcr.Digest  // nonces, the oldest first
	dropped    int           // questions that came too fast, since droppedAt
	droppedAt  time.Time
	subscribed condition
	invalid    limiter
	flood      limiter
}

func newProver() prover {
	p := prover{free: make(chan struct{}, 1)}
	p.free <- struct{}{}
	return p
}

// asked says whether the uplink listens to questions.
func (u *Uplink) asked() bool { return u.config.Attester != nil && u.config.Challenges().Len() > 0 }

// document is an evidence document on its way.
type document struct {
	parts  [][]byte // that were not sent yet
	unsent int      // how many the broker has not acknowledged
	flying int      // how many of them are in flight
	window int      // how many may be
	err    error
}

// challenged takes a question. It checks, in this order: signature, form and
// addressee (trust/receipt); that its nonce was not answered before; that the
// last question is long enough ago. The device's clock does not matter: whether
// an answer is in time is the fleet's to judge. A rotation of challenge keys comes
// the same way (rotated).
func (s *session) challenged(ctx context.Context, m mqtt.Message) {
	u := s.u
	v, err := receipt.VerifyChallenge(m.Payload, u.config.Challenges(), u.config.Tenant, u.config.Device)
	c := v.Challenge()
	if err == nil && slices.ContainsFunc(u.prover.answered, func(n pcr.Digest) bool { return slices.Equal(n, c.Nonce) }) {
		err = errors.New("a question came again: its nonce was answered before")
	}
	if err != nil && s.rotated(ctx, rotation.Challenge, m.Payload) {
		return
	}
	if err != nil {
		u.prover.invalid.report(ctx, u, finding.LinkChallengeInvalid, err)
		return
	}
	now := time.Now()
	if !u.prover.taken.IsZero() && now.Sub(u.prover.taken) < questionEvery {
		s.tooFast(ctx, now)
		return
	}
	u.prover.taken = now
	if len(u.prover.answered) == maxAnswered {
		u.prover.answered = slices.Delete(u.prover.answered, 0, 1)
	}
	u.prover.answered = append(u.prover.answered, c.Nonce)
	s.question = &c // an older one that was not begun is out of date
}

// tooFast leaves a question unanswered; a fleet that is well asks again later.
func (s *session) tooFast(ctx context.Context, now time.Time) {
	p := &s.u.prover
	if now.Sub(p.droppedAt) > floodTime {
		p.dropped, p.droppedAt = 0, now
	}
	p.dropped++
	s.u.config.Log.Debug("question left unanswered: it came too fast", "number", p.dropped)
	if p.dropped >= floodAfter {
		p.flood.report(ctx, s.u, finding.LinkChallengeFlood, fmt.Errorf("%d questions since %s came faster than one in %s",
			p.dropped, p.droppedAt.UTC().Format(time.RFC3339), questionEvery))
	}
}

// prove has evidence made when somebody asked for it or when it is due, unless
// some is being made already.
func (s *session) prove(ctx context.Context) {
	u := s.u
	if u.config.Attester == nil || s.question == nil && (time.Now().Before(u.prover.due) || u.budget.sparing()) {
		return
	}
	if u.budget.over() {
		u.config.Log.Warn("question left unanswered: the day's budget is spent")
		s.question = nil
		return
	}
	select {
	case <-u.prover.free:
	default:
		return // looked at again when it is made, or a tick later
	}
	question := s.question
	s.question, u.prover.due = nil, time.Now().Add(evidenceRetry)
	go func() {
		defer func() { u.prover.free <- struct{}{} }()
		d := document{window: 1}
		var b []byte
		if b, d.err = u.config.Attester.Evidence(ctx, question); d.err == nil {
			var id [16]byte
			_, _ = rand.Read(id[:]) // never fails
			d.parts, d.err = evidence.Split(id, b)
		}
		d.unsent = len(d.parts)
		select {
		case s.made <- &d:
		case <-ctx.Done(): // the connection ended, and the document with it
		}
	}()
}

// begin takes a document that was made. One that is still on its way is given up
// for it: the fleet asks for the newest.
func (s *session) begin(d *document) {
	if d.err != nil {
		s.u.config.Log.Warn("make evidence", "error", d.err)
		return
	}
	s.document = d
}

// sendParts sends what the window allows of the document; events went first.
func (s *session) sendParts() error {
	if s.document != nil && s.u.budget.over() {
		s.u.config.Log.Warn("evidence given up: the day's budget is spent")
		s.document = nil
	}
	d := s.document
	for d != nil && len(d.parts) > 0 && d.flying < d.window && len(s.flights) < maxInFlight {
		if err := s.send(presence.Evidence, false, d.parts[0]); err != nil {
			return err
		}
		s.flights[len(s.flights)-1].of = d
		d.parts = d.parts[1:]
		d.flying++
	}
	return nil
}

// landed counts a part that the broker has acknowledged.
func (s *session) landed(f flight) {
	d := f.of
	if d == nil {
		return
	}
	d.flying--
	d.unsent--
	if time.Since(f.since) < fastAck {
		d.window = min(d.window+1, maxParts)
	} else {
		d.window = 1
	}
	if d.unsent > 0 || d != s.document {
		return
	}
	s.document = nil
	now := time.Now()
	s.u.prover.due = now.Add(s.u.config.EvidenceEvery)
	s.u.mu.Lock()
	s.u.status.LastEvidence = &now
	s.u.mu.Unlock()
}
