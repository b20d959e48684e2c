// Package forward carries the journal to one syslog server of the hospital, in one of
// the formats of package format/syslog. It reads by a cursor of its own and never
// frees a record nor holds one up: what the fleet has confirmed may be recycled
// before a sink that is behind has got it, and then the sink is told which records
// these were. Syslog has no acknowledgement: after a connection's end, sending begins
// again behind the last record that was written long enough before it, so that a
// record may come twice, with the same id, and is not lost to a connection.
package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	device "ward/internal/device/syslog"
	"ward/internal/format/syslog"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const (
	// overlap is how long before a connection's end a record must have been written
	// to count as sent: the time in which the connection may lose it, twice.
	overlap = 2 * device.LossTime
	// batch records are read at once, and pace is the time that each takes: at most
	// 50 messages a second.
	batch = 32
	pace  = 20 * time.Millisecond
	// firstRetry and lastRetry bound the waits between two attempts.
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
	// steady is how long a connection lasts that makes the next wait short.
	steady = time.Minute
	// downGrace is how long a sink may be out of reach before that is a finding.
	downGrace = time.Minute
	// saveEvery is how often the cursor is written down at most, so that a busy
	// journal does not wear the flash; what is lost by it is sent again.
	saveEvery = 10 * time.Minute
	// aliveEvery is how often Alive is called at least, while nothing happens; a
	// connection that stands for so long is one to a server that admits the device.
	aliveEvery = 5 * time.Second
	// identityWait is how long one look for an identity lasts.
	identityWait = 20 * time.Second
	// farewellTime bounds what is still sent when the daemon stops.
	farewellTime = 2 * time.Second
	// notYet is how long a record that the journal announces and does not give yet is
	// waited for, and stumble how long the journal is left alone after an error.
	notYet  = 50 * time.Millisecond
	stumble = time.Second
)

// Journal is the journal by cursor.
type Journal interface {
	// Read returns up to limit records behind a sequence number, oldest first.
	Read(ctx context.Context, after uint64, limit int) ([]event.Record, error)
	// Wait returns when there is a record behind the sequence number.
	Wait(ctx context.Context, after uint64) error
	// Newest is the sequence number of the newest record, 0 for none.
	Newest() uint64
}

// Recorder takes events into the journal.
type Recorder interface {
	Record(ctx context.Context, e event.Event) error
}

// Credentials wait for a usable identity and give what a connection to a sink needs;
// the server's name is added here. When ctx ends there is no identity yet; another
// error says that nobody can be trusted.
type Credentials interface {
	TLS(ctx context.Context) (*tls.Config, error)
}

// Connection is one connection to a syslog server; *device/syslog.Conn is one.
type Connection interface {
	Send(message []byte) error
	Done() <-chan struct{}
	Err() error
	Close()
}

// Config says where the sink is and what it gets.
type Config struct {
	Name        string // of the sink, as it is configured
	Address     string // host:port
	ServerName  string // the name in the server's certificate; empty for the host
	Format      func(syslog.Origin, *syslog.Event) []byte
	Origin      syslog.Origin
	Epoch       uint64 // the journal's
	State       string // folder for the cursor; empty: it is not kept
	Journal     Journal
	Recorder    Recorder
	Credentials Credentials
	Alive       func() // called at least once a minute; may be nil
	Log         *slog.Logger
	// Connect opens a connection; nil for the real one.
	Connect func(ctx context.Context, address string, config *tls.Config) (Connection, error)
}

// Status is a sink as others see it.
type Status struct {
	Name    string
	State   string // "connected", "connecting", "no-identity" or "stopped"
	Since   time.Time
	Sent    uint64 // last record that was written
	Cursor  uint64 // last record that no end of the connection takes back
	Behind  uint64 // records that were not written yet
	Skipped uint64 // records that this sink did not get, since the daemon's start
	Error   string
}

// Sink is the role for one sink.
type Sink struct {
	config Config
	wrong  *finding.Finding // the condition that holds

	cursor   uint64 // last record that was written
	safe     uint64 // last record that no end of the connection takes back
	marks    []mark
	loaded   bool   // the state file was read
	known    bool   // this sink got records before
	toldGap  uint64 // the last record of the gap that was told last
	toldAt   time.Time
	lastSeen time.Time
	saved    uint64
	savedAt  time.Time

	broken    string // what it means that the cursor was no place in this journal
	announced bool   // that is told in this connection

	mu     sync.Mutex
	status Status
}

// mark says when a record was written.
type mark struct {
	sequence uint64
	at       time.Time
}

// New makes the role; Run does its work.
func New(c Config) *Sink {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alive == nil {
		c.Alive = func() {}
	}
	if c.Connect == nil {
		c.Connect = func(ctx context.Context, address string, config *tls.Config) (Connection, error) {
			conn, err := device.Connect(ctx, address, config)
			if err != nil {
				return nil, err
			}
			return conn, nil
		}
	}
	return &Sink{config: c, status: Status{Name: c.Name, State: "connecting", Since: time.Now()}}
}

// Status says how the sink is.
func (s *Sink) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	if newest := s.config.Journal.Newest(); newest > status.Sent {
		status.Behind = newest - status.Sent
	}
	return status
}

func (s *Sink) setState(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.State != name {
		s.status.State, s.status.Since = name, time.Now()
	}
	if err != nil {
		s.status.Error = err.Error()
	}
	if name == "connected" {
		s.status.Error = ""
	}
}

// Run connects and sends until ctx ends. It never gives up.
func (s *Sink) Run(ctx context.Context) error {
	if !s.loaded {
		s.load(ctx)
		s.loaded = true
	}
	s.marks, s.cursor = nil, s.safe
	s.lastSeen, s.savedAt = time.Now(), time.Now()
	defer func() {
		s.save(true)
		s.setState("stopped", nil)
	}()
	wait := firstRetry
	for ctx.Err() == nil {
		s.config.Alive()
		begun := time.Now()
		err := s.attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errNoIdentity) || time.Since(begun) > steady {
			wait = firstRetry
		}
		s.failed(ctx, err)
		s.pause(ctx, rand.N(wait))
		wait = min(2*wait, lastRetry)
	}
	return nil
}

func (s *Sink) pause(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(d); ctx.Err() == nil && time.Until(end) > 0; {
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Until(end), aliveEvery)):
			s.config.Alive()
		}
	}
}

// errNoIdentity: the identity role says what is wrong; this one waits.
var errNoIdentity = errors.New("there is no usable identity yet")

// errAnchors: it is not known whom to trust.
var errAnchors = errors.New("the anchors for syslog servers cannot be used")

// attempt is one connection from its beginning to its end.
func (s *Sink) attempt(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, identityWait)
	config, err := s.config.Credentials.TLS(wait)
	cancel()
	switch {
	case err != nil && wait.Err() != nil && errors.Is(err, wait.Err()):
		s.setState("no-identity", err)
		return errors.Join(errNoIdentity, err)
	case err != nil:
		return errors.Join(errAnchors, err)
	}
	s.setState("connecting", nil)
	config.ServerName = s.config.ServerName
	conn, err := s.config.Connect(ctx, s.config.Address, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	s.setState("connected", nil)
	s.config.Log.Info("connected to the sink")
	err = s.serve(ctx, conn)
	s.confirm(time.Now())
	s.marks, s.cursor, s.announced = nil, s.safe, false
	s.confirm(time.Now())
	return err
}

// confirm moves the safe cursor behind what was written long enough ago.
func (s *Sink) confirm(now time.Time) {
	for len(s.marks) > 0 && now.Sub(s.marks[0].at) >= overlap {
		s.safe, s.marks, s.broken = s.marks[0].sequence, s.marks[1:], ""
	}
	s.mu.Lock()
	s.status.Sent, s.status.Cursor = s.cursor, s.safe
	s.mu.Unlock()
}

// wrote notes that everything up to a record was written; some two marks a second
// are kept.
func (s *Sink) wrote(sequence uint64, now time.Time) {
	s.cursor = sequence
	if n := len(s.marks); n > 1 && now.Sub(s.marks[n-2].at) < time.Second {
		s.marks[n-1] = mark{sequence, now}
		return
	}
	s.marks = append(s.marks, mark{sequence, now})
}
