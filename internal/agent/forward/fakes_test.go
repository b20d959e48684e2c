package forward_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/agent/forward"
	"ward/internal/contracttest"
	device "ward/internal/device/syslog"
	"ward/internal/format/chain"
	"ward/internal/format/syslog"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

const boot = "2a1b3c4d-0000-4000-8000-000000000001"

const name = "rfc5424+tls://log.example:6514"

// memory is a journal in memory that is its own recorder. What is recycled is gone
// for every reader.
type memory struct {
	mu      sync.Mutex
	epoch   uint64
	records []event.Record
	gone    uint64
	changed chan struct{}
	fail    error
}

func newMemory() *memory { return &memory{epoch: 1, changed: make(chan struct{})} }

func (m *memory) Record(_ context.Context, e event.Event) error {
	contracttest.Recorded(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	s := event.Stamp{Source: event.Source{Tenant: "acme", Device: "pump-1"}, Epoch: m.epoch, Sequence: uint64(len(m.records)) + 1, Boot: boot}
	if n := len(m.records); n > 0 {
		s.Prev = m.records[n-1].Hash
	}
	b, err := event.Encode(e, s)
	if err != nil {
		return err
	}
	m.records = append(m.records, event.Record{Epoch: m.epoch, Sequence: s.Sequence, Hash: chain.Next(b), Bytes: b})
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

func (m *memory) add(t testing.TB, n int) {
	t.Helper()
	for range n {
		if err := m.Record(t.Context(), event.Event{Type: event.DaemonStopped, Severity: finding.Info, Report: []byte(`{"session":3}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

// recycle takes the records up to a sequence out.
func (m *memory) recycle(last uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = last
}

func (m *memory) Read(_ context.Context, after uint64, limit int) ([]event.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	after = max(after, m.gone)
	if after >= uint64(len(m.records)) {
		return nil, nil
	}
	rest := m.records[after:]
	return append([]event.Record(nil), rest[:min(limit, len(rest))]...), nil
}

func (m *memory) Wait(ctx context.Context, after uint64) error {
	for {
		m.mu.Lock()
		changed, n := m.changed, uint64(len(m.records))
		m.mu.Unlock()
		if n > after {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) Newest() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.records))
}

// findings are the findings among the records.
func (m *memory) findings(t testing.TB) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, r := range m.records {
		if len(r.Bytes) == 0 {
			continue
		}
		d, err := event.Parse(r.Bytes)
		if err != nil {
			continue
		}
		if d.Finding != nil {
			out = append(out, strings.TrimPrefix(d.Type, "ward.finding.")+" "+string(d.Finding.Code))
			if d.Subject != "sink "+name {
				t.Errorf("finding about %q", d.Subject)
			}
		}
	}
	return strings.Join(out, ", ")
}

// server is a syslog server that may lose what a connection got shortly before its
// end, as TCP does.
type server struct {
	t testing.TB

	mu     sync.Mutex
	refuse error
	loses  time.Duration
	stored []string // what came out of connections that have ended or stand, in order
	at     []time.Time
	conns  []*conn
	dials  int
}

type conn struct {
	server *server
	from   int // of what came by this connection
	once   sync.Once
	done   chan struct{}
	err    error
}

func (s *server) connect(_ context.Context, address string, config *tls.Config) (forward.Connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	if address != "log.example:6514" || config.ServerName != "syslog" {
		s.t.Errorf("connect to %s with %+v", address, config)
	}
	if s.refuse != nil {
		return nil, s.refuse
	}
	c := &conn{server: s, from: len(s.stored), done: make(chan struct{})}
	s.conns = append(s.conns, c)
	return c, nil
}

func (c *conn) Send(message []byte) error {
	if c.Err() != nil {
		return c.Err()
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.stored = append(c.server.stored, string(message))
	c.server.at = append(c.server.at, time.Now())
	return nil
}

func (c *conn) Done() <-chan struct{} { return c.done }
func (c *conn) Close()                { c.end(device.ErrClosed) }

func (c *conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

func (c *conn) end(err error) {
	c.once.Do(func() { c.err = err; close(c.done) })
}

// set says what the next connections meet.
func (s *server) set(cause device.Cause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse = nil; cause != 0 {
		s.refuse = &device.Error{Address: "log.example:6514", Cause: cause, Err: errors.New("in the test")}
	}
}

// cut ends the connection that stands, for a cause.
func (s *server) cut(cause device.Cause) {
	s.mu.Lock()
	if len(s.conns) == 0 {
		s.mu.Unlock()
		return
	}
	c := s.conns[len(s.conns)-1]
	keep := len(s.stored)
	for keep > c.from && time.Since(s.at[keep-1]) < s.loses {
		keep--
	}
	if c.Err() == nil {
		s.stored, s.at = s.stored[:keep], s.at[:keep]
	}
	s.mu.Unlock()
	c.end(&device.Error{Address: "log.example:6514", Cause: cause, Err: errors.New("cut by the test")})
}

// attempts counts the connections that were tried.
func (s *server) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

func (s *server) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.stored...)
}

// credentials are there, or not yet, or cannot be used.
type credentials struct {
	none atomic.Bool
	err  error // from the begin on
}

func (c *credentials) TLS(ctx context.Context) (*tls.Config, error) {
	if c.err != nil {
		return nil, c.err
	}
	if c.none.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &tls.Config{}, nil
}

// line is a format for tests: what counts, in one line.
func line(o syslog.Origin, e *syslog.Event) []byte {
	if o.Device != "pump-1" {
		panic("origin " + o.Device)
	}
	switch {
	case e.Said("code") != "" && e.Said("sequence") == "":
		return fmt.Appendf(nil, "%s: %s", e.Said("type"), e.Said("detail"))
	case e.Said("hash") != "":
		return fmt.Appendf(nil, "%s %s %.8s", e.Said("id"), e.Said("type"), e.Said("hash"))
	}
	return []byte(e.Said("id"))
}

// scene is a sink that runs in a bubble of time.
type scene struct {
	t      *testing.T
	m      *memory
	s      *server
	who    *credentials
	config forward.Config
	sink   *forward.Sink
	alive  time.Time
	stop   func()
}

func (sc *scene) start() {
	sc.t.Helper()
	ctx, cancel := context.WithCancel(sc.t.Context())
	ended := make(chan error, 1)
	sc.sink = forward.New(sc.config)
	go func() { ended <- sc.sink.Run(ctx) }()
	sc.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			sc.t.Errorf("Run: %v", err)
		}
		if state := sc.sink.Status().State; state != "stopped" {
			sc.t.Errorf("behind its end the sink is %s", state)
		}
		sc.stop = func() {}
	}
}

func (sc *scene) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// run runs a body beside a sink. State lies in a folder for the test.
func run(t *testing.T, change func(*scene), body func(sc *scene)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		sc := &scene{t: t, m: newMemory(), s: &server{t: t}, who: &credentials{}, alive: time.Now()}
		sc.config = forward.Config{
			Name: name, Address: "log.example:6514", ServerName: "syslog", Format: line, Origin: syslog.Origin{Tenant: "acme", Device: "pump-1"}, Epoch: 1,
			State: dir, Journal: sc.m, Recorder: sc.m, Credentials: sc.who, Connect: sc.s.connect,
			Alive: func() {
				if silence := time.Since(sc.alive); silence > time.Minute {
					t.Errorf("silent for %s", silence)
				}
				sc.alive = time.Now()
			},
		}
		if change != nil {
			change(sc)
		}
		sc.start()
		body(sc)
		sc.stop()
	})
}

// sequence lists the ids that arrived, without device and epoch; other lines whole.
func sequence(lines []string) string {
	var out []string
	for _, l := range lines {
		out = append(out, strings.TrimPrefix(l, "pump-1/1/"))
	}
	return strings.Join(out, " ")
}

func stateFiles(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, e := range entries {
		b, err := os.ReadFile(dir + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	return out.String()
}
