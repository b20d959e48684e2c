// Package uplink carries the journal to the fleet over MQTT (docs/asyncapi.yaml)
// and says that the device is there. Records go up in their order; the cursor
// is the last receipt that the fleet signed and the journal recognised, and
// nothing else frees a record: not the broker's acknowledgement, and not the
// connection's end. Evidence goes up beside them, when the fleet asks for it and
// now and then unasked; events go first. Nothing that comes down can do more than
// free records, ask for evidence, which is bounded in number, and give the keys
// that sign these two their successors.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
	"ward/internal/trust/receipt"
)

const (
	// maxInFlight is how many messages may wait for the broker's
	// acknowledgement; it bounds the uplink's memory.
	maxInFlight = 64
	// maxUnconfirmed is how many records may be ahead of the last receipt. It
	// bounds what is sent in vain while nobody at the fleet is listening.
	maxUnconfirmed = 1024
	// readBatch is how many records are read from the journal at once.
	readBatch = 32
	// firstResend and lastResend bound the waits for a receipt before the
	// records behind the last one are sent again.
	firstResend = 5 * time.Second
	lastResend  = 5 * time.Minute
	// firstRetry and DefaultLastRetry bound the waits between two rounds of all
	// brokers.
	firstRetry       = 500 * time.Millisecond
	DefaultLastRetry = time.Minute
	// downGrace is how long the fleet may be out of reach before that is a
	// finding; a device that boots has its network some seconds later.
	downGrace = 15 * time.Second
	// steady is how long a connection lasts that makes the next wait short.
	steady = time.Minute
	// farewellTime bounds the clean end of a connection.
	farewellTime = 3 * time.Second
	// aliveEvery is how often Alive is called at least, while nothing happens.
	aliveEvery = 5 * time.Second
	// identityWait is how long one look for an identity lasts.
	identityWait = 20 * time.Second
	// maxIncoming is how many messages a minute a broker may send: ten times what a
	// fleet sends that gathers its receipts over 100 ms. Each costs an
	// acknowledgement, which the budget does not count.
	maxIncoming = 6000
	// maxHeard is how many of them are looked at in a second: each costs the check
	// of a signature. Of those that wait the oldest go first: a newer receipt says
	// all that an older one does.
	maxHeard = 100
	// maxMessage bounds each of them, in bytes; 64 wait at most to be looked at.
	maxMessage = receipt.MaxSize
	// DefaultWorryAfter is the silence that the birth announces.
	DefaultWorryAfter = 15 * time.Minute
	subjectName       = "uplink"
)

// Record is a record of the journal. One without Bytes has lost its content;
// its hash is sent in its place.
type Record = event.Record

// Journal is the journal by cursor.
type Journal interface {
	// Read returns up to limit records behind a sequence number, oldest first.
	Read(ctx context.Context, after uint64, limit int) ([]Record, error)
	// Wait returns when there is a record behind the sequence number.
	Wait(ctx context.Context, after uint64) error
	// Acknowledge frees the records up to the sequence number; a head that is
	// not the journal's own is an error.
	Acknowledge(epoch, sequence uint64, head chain.Hash) error
	// Acknowledged is the last sequence number that was freed, 0 for none.
	Acknowledged() uint64
}

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Credentials wait for a usable identity; the caller adds the server's name.
type Credentials interface {
	TLS(ctx context.Context) (*tls.Config, error)
}

// Publisher is one connection to a broker; *mqtt.Client is one.
type Publisher interface {
	Send(topic string, retain bool, payload []byte) (mqtt.Delivery, error)
	Publish(ctx context.Context, topic string, retain bool, payload []byte) error
	Subscribe(ctx context.Context, filter string) error
	Messages() <-chan mqtt.Message
	Done() <-chan struct{}
	Err() error
	Close()
}

// Config says where the fleet is, and who speaks.
type Config struct {
	Brokers    []string // tls://host:port or wss://host/path, in the order of preference
	Proxy      string   // http://host:port for all of them; empty: none
	DailyBytes uint64   // budget of a day; DefaultDailyBytes if zero
	// PreferAfter is the middle of the waits, at a broker that is not the first,
	// before those that come before it are tried; DefaultPreferAfter if zero.
	PreferAfter    time.Duration
	LastRetry      time.Duration // longest wait between two rounds; DefaultLastRetry if zero
	ServerName     string        // the name in the broker's certificate; empty for the broker's own host
	KeepAlive      time.Duration
	WorryAfter     time.Duration // announced in the birth; DefaultWorryAfter if zero
	Tenant, Device string
	Epoch          uint64 // the journal's
	// Birth gives boot, session, release, version and capabilities at the
	// moment of a birth; the uplink fills in the rest.
	Birth      func() presence.Status
	Receipts   func() *dsse.Keyring // the fleet's receipt keys, as they are now
	Challenges func() *dsse.Keyring // the fleet's challenge keys; without any no question is heard
	Rotations  Rotations            // of both; nil: none is followed
	Attester   Attester             // makes evidence; nil: none goes up
	// EvidenceEvery is the wait between two documents that nobody asked for;
	// DefaultEvidenceEvery if zero.
	EvidenceEvery time.Duration
	Journal       Journal
	Recorder      Recorder
	Credentials   Credentials
	// Outcome is told how a connection with what Credentials gave went: the
	// broker admitted the device and took its birth, or refused it, or the key
	// did not sign. It is not called for a broker that is out of reach or not
	// the fleet's. May be nil.
	Outcome func(used *tls.Config, admitted bool)
	// Outdated says that Credentials have something newer than a connection
	// uses: it takes leave and connects with that. May be nil.
	Outdated func(used *tls.Config) bool
	// Replaced is told of a signed receipt that proves the journal to be an older
	// copy or another one: the fleet holds a record of this epoch that the journal
	// never held (Acknowledge gives chain.ErrFork), or one of a later epoch. Another
	// journal has to be begun, of an epoch that is atLeast. May be nil.
	Replaced func(detail string, atLeast uint64)
	Alive    func() // called at least once a minute; may be nil
	Log      *slog.Logger
	// Connect opens a connection; nil for the real one.
	Connect func(context.Context, mqtt.Options) (Publisher, error)
}

// Status is the link as others see it.
type Status struct {
	State       string     `json:"state"` // "connected", "connecting", "no-identity" or "stopped"
	Broker      string     `json:"broker,omitempty"`
	Since       time.Time  `json:"since"`
	LastError   string     `json:"lastError,omitempty"`
	Sent        uint64     `json:"sent"`      // last record that went to the broker in this connection
	Confirmed   uint64     `json:"confirmed"` // last record that the fleet has confirmed
	LastReceipt *time.Time `json:"lastReceipt,omitempty"`
	// FleetTime is the latest moment that the fleet signed in a receipt, by its own
	// clock.
	FleetTime time.Time `json:"fleetTime,omitzero"`
	// LastEvidence is when the broker had taken a whole evidence document.
	LastEvidence *time.Time `json:"lastEvidence,omitempty"`
	SentToday    uint64     `json:"sentToday"`  // bytes since the budget's day began
	DailyBytes   uint64     `json:"dailyBytes"` // the budget
}

// Uplink is the role.
type Uplink struct {
	config     Config
	link       condition
	protocol   condition
	subscribed condition
	invalid    limiter
	foreign    limiter
	unrotated  limiter // refused rotations
	prover     prover
	budget     budget
	preference preference

	lastSeen time.Time   // when the last connection ended, or Run began
	lastUp   string      // the broker of the last connection that stood
	using    *tls.Config // of the connection that stands

	mu     sync.Mutex
	status Status
}

// New makes the role; Run does its work.
func New(c Config) *Uplink {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Challenges == nil {
		c.Challenges = func() *dsse.Keyring { return nil }
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Outdated == nil {
		c.Outdated = func(*tls.Config) bool { return false }
	}
	if c.Replaced == nil {
		c.Replaced = func(string, uint64) {}
	}
	if c.Outcome == nil {
		c.Outcome = func(*tls.Config, bool) {}
	}
	if c.WorryAfter == 0 {
		c.WorryAfter = DefaultWorryAfter
	}
	if c.EvidenceEvery == 0 {
		c.EvidenceEvery = DefaultEvidenceEvery
	}
	if c.LastRetry == 0 {
		c.LastRetry = DefaultLastRetry
	}
	if c.PreferAfter == 0 {
		c.PreferAfter = DefaultPreferAfter
	}
	if c.DailyBytes == 0 {
		c.DailyBytes = DefaultDailyBytes
	}
	if c.Connect == nil {
		c.Connect = func(ctx context.Context, o mqtt.Options) (Publisher, error) {
			client, err := mqtt.Connect(ctx, o)
			if err != nil {
				return nil, err
			}
			return client, nil
		}
	}
	return &Uplink{config: c, prover: newProver(), budget: budget{daily: c.DailyBytes, begun: time.Now()}, status: Status{State: "connecting", Since: time.Now(), DailyBytes: c.DailyBytes}}
}

// Status says how the link is.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	s.Confirmed = u.config.Journal.Acknowledged()
	return s
}

func (u *Uplink) setState(state, broker string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.status.State != state {
		u.status.Since = time.Now()
	}
	u.status.State, u.status.Broker = state, broker
	if err != nil {
		u.status.LastError = err.Error()
	}
	if state == "connected" {
		u.status.LastError = ""
	}
}

// Run connects and sends until ctx ends, then takes leave. It never gives up.
func (u *Uplink) Run(ctx context.Context) error {
	defer func() { u.setState("stopped", "", nil) }()
	defer u.giveUpBetter()
	wait := firstRetry
	u.lastSeen = time.Now()
	for ctx.Err() == nil {
		u.config.Alive()
		begun := time.Now()
		err := u.attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errNoIdentity) || time.Since(begun) > steady {
			wait = firstRetry
		}
		if errors.Is(err, errRenewed) || errors.Is(err, errBetter) {
			wait = firstRetry
			continue
		}
		u.failed(ctx, err)
		u.pause(ctx, rand.N(wait))
		wait = min(2*wait, u.config.LastRetry)
	}
	return nil
}

// attempt is one connection from its beginning to its end.
func (u *Uplink) attempt(ctx context.Context) error {
	st := u.better(ctx)
	if st == nil {
		var err error
		if st, err = u.connect(ctx); err != nil {
			return err
		}
	}
	defer st.conn.Close()
	u.using = st.using
	s := &session{standing: st, u: u, wake: make(chan error, 1), made: make(chan *document)}
	err := s.run(ctx)
	if ended := st.conn.Err(); err != nil && errors.Is(ended, mqtt.ErrProtocol) {
		return ended // it tells more than what failed because of it
	}
	return err
}

func (u *Uplink) pause(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(d); ctx.Err() == nil; {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(left, aliveEvery)):
			u.config.Alive()
		}
	}
}
