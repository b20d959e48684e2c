package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
	"ward/internal/trust/rotation"
)

// ackTime is how long the broker may take to acknowledge a message.
const ackTime = 30 * time.Second

// greetTime is how long the first connection of a daemon waits for the receipt that
// answers its birth: what is saved of the last one may be half a minute old, and what
// came behind it would be sent again at every start.
const greetTime = 2 * time.Second

// notYet is how long a record that the journal announces and does not give yet
// is waited for.
const notYet = 20 * time.Millisecond

var errNoAck = errors.New("the broker does not acknowledge")

// errRenewed: there is a new certificate to connect with.
var errRenewed = errors.New("the device's certificate was renewed")

// flight is a message on its way to the broker.
type flight struct {
	delivery mqtt.Delivery
	since    time.Time
	of       *document // of a part
}

// session is one connection. Everything happens in one goroutine, except the
// wait for the journal's next record and the making of evidence.
type session struct {
	*standing
	u *Uplink

	begun time.Time        // when the broker took the birth
	heard int              // messages from above within the second that runs
	quiet <-chan time.Time // its end

	flights []flight
	cursor  uint64     // last record that was sent
	wake    chan error // the journal's wait has ended
	waiting bool

	again      <-chan time.Time // when to read the journal: after an error, or a greeting
	greeting   bool             // the receipt that answers the birth is awaited
	resend     *time.Timer      // when the fleet's receipt is overdue
	patience   time.Duration    // how long that is
	lastResend time.Time        // when sending last began behind the last receipt

	question *receipt.Challenge // that was taken and not begun to be answered
	made     chan *document
	document *document // on its way
}

func (s *session) run(ctx context.Context) error {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	first := s.u.lastUp == ""
	if err := s.open(ctx); err != nil {
		return err // a broker that does not take the birth is no fleet that was seen
	}
	defer func() { s.u.lastSeen = time.Now() }()
	s.cursor = s.u.config.Journal.Acknowledged()
	if first && s.cursor > 0 {
		s.again, s.greeting = time.After(greetTime), true
	}
	s.patience, s.lastResend = firstResend, time.Now()
	s.resend = time.NewTimer(s.patience)
	defer s.resend.Stop()
	refresh := time.NewTicker(s.u.config.WorryAfter / 3)
	defer refresh.Stop()
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	prefer := s.u.lookUp(s.rank)
	woken := false
	for {
		s.u.config.Alive()
		s.u.weigh(ctx, time.Now())
		before := s.cursor
		if err := s.fill(watch); err != nil {
			return err
		}
		if err := s.sendParts(); err != nil {
			return err
		}
		s.prove(watch)
		if woken && s.cursor == before && s.again == nil {
			s.again = time.After(notYet)
		}
		woken = false
		select {
		case <-ctx.Done():
			s.farewell(ctx)
			return nil
		case <-s.conn.Done():
			return s.conn.Err()
		case <-s.oldest():
			if err := s.land(); err != nil {
				return err
			}
		case m := <-s.messages():
			s.receive(ctx, m)
		case <-s.quiet:
			s.heard, s.quiet = 0, nil
		case <-prefer:
			s.u.tryBetter(ctx, s.rank)
		case st := <-s.u.preference.trying:
			if s.u.preference.trying = nil; st != nil {
				s.u.preference.found = st
				return errBetter
			}
			prefer = s.u.lookUp(s.rank)
		case err := <-s.wake:
			s.waiting = false
			if err != nil && ctx.Err() == nil {
				s.stumble("wait for journal", err)
			}
			woken = true
		case d := <-s.made:
			s.begin(d)
		case <-s.again:
			s.again, s.greeting = nil, false
		case <-s.resend.C:
			s.overdue()
		case <-refresh.C:
			if err := s.sendStatus(); err != nil {
				return err
			}
		case <-alive.C:
			if len(s.flights) > 0 && time.Since(s.flights[0].since) > ackTime {
				return errNoAck
			}
			if time.Since(s.begun) > steady {
				s.u.protocol.clear(ctx, s.u)
			}
			if len(s.flights) == 0 && s.u.config.Outdated(s.u.using) {
				return errRenewed
			}
		}
	}
}

// open subscribes, publishes the birth, and ends what was wrong before.
func (s *session) open(ctx context.Context) error {
	u := s.u
	bounded, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	if err := s.subscribe(ctx, bounded, presence.Receipt, &u.subscribed, finding.LinkSubscribeRefused); err != nil {
		return err
	}
	if u.asked() {
		if err := s.subscribe(ctx, bounded, presence.Challenge, &u.prover.subscribed, finding.LinkChallengeRefused); err != nil {
			return err
		}
	}
	birth := u.presence(presence.Online)
	payload, err := presence.Encode(birth)
	if err != nil {
		return err
	}
	u.spend(messageCost + len(u.topic(presence.State)) + len(payload))
	if err := s.conn.Publish(bounded, u.topic(presence.State), true, payload); err != nil {
		return err
	}
	if u.lastUp != s.broker || u.link.holds() {
		u.recordConnected(ctx, connected{Broker: s.broker, Session: birth.Session})
	}
	u.lastUp, s.begun = s.broker, time.Now()
	if u.prover.due.IsZero() {
		u.prover.due = time.Now().Add(firstEvidence)
	}
	u.link.clear(ctx, u)
	u.config.Outcome(u.using, true)
	u.setState("connected", s.broker, nil)
	u.config.Log.Info("connected to the fleet", "broker", s.broker, "session", birth.Session)
	return nil
}

// subscribe subscribes to one kind; a broker that refuses it is a finding and
// does not end the connection.
func (s *session) subscribe(ctx, bounded context.Context, k presence.Kind, c *condition, code finding.Code) error {
	err := s.conn.Subscribe(bounded, s.u.topic(k))
	switch {
	case errors.Is(err, mqtt.ErrNotPermitted):
		c.raise(ctx, s.u, finding.New(code, err.Error()))
	case err != nil:
		return err
	default:
		c.clear(ctx, s.u)
	}
	return nil
}

// messages are those from above, unless too many came within this second.
func (s *session) messages() <-chan mqtt.Message {
	if s.heard >= maxHeard {
		return nil
	}
	return s.conn.Messages()
}

// fill sends records until the broker's or the fleet's window is full, the day's
// budget holds them back, or the journal has no more; then it waits for the
// journal.
func (s *session) fill(ctx context.Context) error {
	u := s.u
	for s.again == nil && len(s.flights) < maxInFlight {
		acknowledged := u.config.Journal.Acknowledged()
		s.cursor = max(s.cursor, acknowledged)
		if s.cursor-acknowledged >= maxUnconfirmed {
			return nil
		}
		if s.cursor >= u.budget.last() {
			s.hold(ctx, acknowledged)
			return nil
		}
		room := int(min(maxUnconfirmed-(s.cursor-acknowledged), readBatch, uint64(maxInFlight-len(s.flights))))
		records, err := u.config.Journal.Read(ctx, s.cursor, room)
		if err != nil {
			if ctx.Err() == nil {
				s.stumble("read journal", err)
			}
			return nil
		}
		if len(records) == 0 {
			s.await(ctx, s.cursor)
			return nil
		}
		for _, r := range records {
			if r.Sequence > u.budget.last() {
				break
			}
			if err := s.sendRecord(r); err != nil {
				return err
			}
			s.cursor = r.Sequence
		}
		u.mu.Lock()
		u.status.Sent = s.cursor
		u.mu.Unlock()
	}
	return nil
}

func (s *session) send(k presence.Kind, retain bool, payload []byte) error {
	topic := s.u.topic(k)
	d, err := s.conn.Send(topic, retain, payload)
	if err != nil {
		return err
	}
	s.u.spend(messageCost + len(topic) + len(payload))
	s.flights = append(s.flights, flight{delivery: d, since: time.Now()})
	return nil
}

// sendRecord sends a record, or what stands for one that lost its content.
func (s *session) sendRecord(r event.Record) error {
	if len(r.Bytes) > 0 {
		return s.send(presence.Event, false, r.Bytes)
	}
	payload, err := presence.EncodeShed(presence.Shed{Epoch: r.Epoch, Sequence: r.Sequence, Hash: r.Hash})
	if err != nil {
		return err
	}
	return s.send(presence.ShedEvent, false, payload)
}

func (s *session) sendStatus() error {
	payload, err := presence.Encode(s.u.presence(presence.Online))
	if err != nil {
		return err
	}
	return s.send(presence.State, true, payload)
}

// await has one goroutine wait for the journal's record behind another.
func (s *session) await(ctx context.Context, after uint64) {
	if s.waiting {
		return
	}
	s.waiting = true
	go func() { s.wake <- s.u.config.Journal.Wait(ctx, after) }()
}

// stumble leaves the journal alone for a second: it has its own findings, and
// the connection stands.
func (s *session) stumble(what string, err error) {
	s.u.config.Log.Warn(what, "error", err)
	s.again = time.After(time.Second)
}

func (s *session) oldest() <-chan struct{} {
	if len(s.flights) == 0 {
		return nil
	}
	return s.flights[0].delivery.Done()
}

func (s *session) land() error {
	f := s.flights[0]
	s.flights = s.flights[1:]
	if err := f.delivery.Error(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	s.landed(f)
	return nil
}

// overdue sends again what the fleet has not confirmed, each time after a
// longer wait.
func (s *session) overdue() {
	if s.cursor > s.u.config.Journal.Acknowledged() {
		s.patience = min(2*s.patience, lastResend)
		s.repeat()
	}
	s.resend.Reset(s.patience)
}

func (s *session) repeat() {
	acknowledged := s.u.config.Journal.Acknowledged()
	s.u.config.Log.Debug("send again", "from", acknowledged+1, "to", s.cursor)
	s.cursor, s.lastResend = acknowledged, time.Now()
}

// receive takes a message from above: a question (challenged), a receipt, a
// rotation of receipt keys (rotated) or nothing. Of a receipt it checks, in this order: the topic; signature, form and addressee (trust/receipt); the epoch;
// whether it is newer than the last; the chain head, by the journal.
func (s *session) receive(ctx context.Context, m mqtt.Message) {
	u := s.u
	u.spend(answerCost)
	if s.heard++; s.quiet == nil {
		s.quiet = time.After(time.Second)
	}
	if u.asked() && m.Topic == u.topic(presence.Challenge) {
		s.challenged(ctx, m)
		return
	}
	if m.Topic != u.topic(presence.Receipt) {
		u.invalid.report(ctx, u, finding.LinkReceiptInvalid, fmt.Errorf("message on topic %.200q, which is not this device's", m.Topic))
		return
	}
	v, err := receipt.Verify(m.Payload, u.config.Receipts(), u.config.Tenant, u.config.Device)
	if err != nil && s.rotated(ctx, rotation.Receipt, m.Payload) {
		return
	}
	if err != nil {
		u.invalid.report(ctx, u, finding.LinkReceiptInvalid, err)
		return
	}
	r := v.Receipt()
	before := u.config.Journal.Acknowledged()
	switch {
	case r.Epoch < u.config.Epoch, event.Volatile(r.Epoch) && r.Epoch != u.config.Epoch:
		u.config.Log.Debug("receipt of an earlier epoch, or of a journal in memory", "epoch", r.Epoch, "sequence", r.Sequence)
		return
	case r.Epoch > u.config.Epoch:
		err := fmt.Errorf("receipt for record %d of epoch %d, and this journal is in epoch %d", r.Sequence, r.Epoch, u.config.Epoch)
		u.foreign.report(ctx, u, finding.LinkReceiptForeign, err)
		u.config.Replaced(err.Error(), r.Epoch+1)
		return
	case r.Sequence < before:
		u.config.Log.Debug("receipt of an earlier record", "sequence", r.Sequence, "confirmed", before)
		return
	}
	if err := u.config.Journal.Acknowledge(r.Epoch, r.Sequence, r.Head); err != nil {
		u.foreign.report(ctx, u, finding.LinkReceiptForeign, err)
		if errors.Is(err, chain.ErrFork) {
			u.config.Replaced(err.Error(), r.Epoch+1)
		}
		return
	}
	if s.greeting {
		s.again, s.greeting = nil, false
	}
	now := time.Now()
	u.mu.Lock()
	u.status.LastReceipt = &now
	if r.Time.After(u.status.FleetTime) {
		u.status.FleetTime = r.Time
	}
	u.mu.Unlock()
	if r.Sequence > before {
		s.patience = firstResend
		s.resend.Reset(s.patience)
		return
	}
	// The fleet repeats itself: it has begun to listen and lacks what is behind
	// this record.
	if s.cursor > before && time.Since(s.lastResend) > s.patience {
		s.overdue()
	}
}

// farewell sends what is left, as far as the time allows, and takes leave.
func (s *session) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTime)
	defer cancel()
	s.waiting = true // nothing new is waited for
	s.again = nil
	if err := s.fill(ctx); err != nil {
		return
	}
	for len(s.flights) > 0 {
		select {
		case <-s.oldest():
			if err := s.land(); err != nil {
				return
			}
		case <-s.conn.Done():
			return
		case <-ctx.Done():
			return
		}
	}
	payload, err := presence.Encode(s.u.presence(presence.Offline))
	if err == nil {
		s.u.spend(messageCost + len(s.u.topic(presence.State)) + len(payload))
		err = s.conn.Publish(ctx, s.u.topic(presence.State), true, payload)
	}
	if err != nil {
		s.u.config.Log.Warn("farewell", "error", err)
	}
}
