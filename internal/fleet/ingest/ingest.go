// Package ingest is the fleet's ear: it subscribes to what devices send over
// MQTT (docs/asyncapi.yaml), accepts what keeps the contract's form and
// continues the device's chain, and answers with signed receipts. That a
// message is a device's own rests on the broker, which admits only TLS client
// certificates and lets each write under its own name; ingest checks that the
// message names the device whose topic it came on. What cannot be accepted,
// and silence, become findings. Evidence it hands to a verifier, whose questions
// it carries and whose verdicts it tells.
package ingest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"ward/internal/device/mqtt"
	"ward/internal/trust/presence"
)

const (
	// defaultCoalesce is how long events are gathered before a receipt.
	defaultCoalesce = 100 * time.Millisecond
	// lookAround is how often silence is looked for.
	lookAround = time.Second
	// firstRetry and lastRetry bound the waits between two connections.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
	// queue is how many messages wait inside, before the connection's reading
	// stops and the broker has to keep them.
	queue = 1024
)

// Config says what to listen to, and how to answer.
type Config struct {
	Broker   string      // tls://host:port
	TLS      *tls.Config // fleet roots, the backend's certificate, server name
	ClientID string      // the common name of the backend's certificate
	Tenant   string      // only this tenant; empty for all
	Device   string      // only this device; empty for all
	// ReceiptKey signs receipts; nil sends none, and devices then keep every
	// event.
	ReceiptKey crypto.Signer
	// Rotations lead from the keys that devices were released with to the ones that
	// sign now.
	Rotations Rotations
	// StateFile keeps what is known of every device, so that a restart
	// continues the chains; empty keeps it in memory only.
	StateFile string
	// EventsFile gets every accepted record as a line, synced before a receipt
	// covers it; empty stores none.
	EventsFile string
	// Adopt accepts a device's chain from the first record that is seen. Without
	// it a chain that is first seen in its middle gets no receipt: a receipt
	// covers everything before it, and that was never here.
	Adopt bool
	// AK is a device's registered attestation key, with which its checkpoints are
	// verified; nil where it has none. Nil: none is verified.
	AK       func(now time.Time, tenant, device string) (*ecdsa.PublicKey, error)
	Verifier Verifier      // asks for evidence and judges it; nil: nobody is asked
	Coalesce time.Duration // 100 ms if zero
	Log      *slog.Logger
}

// Ingest listens to devices.
type Ingest struct {
	config Config
	book   *book
	store  *store
	out    chan Received
	heard  atomic.Bool
	hint   string // names the receipt key, as devices do; empty for none
}

// New reads the state file and opens the events file.
func New(c Config) (*Ingest, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Coalesce == 0 {
		c.Coalesce = defaultCoalesce
	}
	if c.Broker == "" || c.TLS == nil || c.ClientID == "" {
		return nil, errors.New("listen: broker, TLS configuration and client id must be given")
	}
	if c.Tenant == "" && c.Device != "" {
		return nil, errors.New("listen: a device is named by its tenant and its id: give both")
	}
	hint, err := c.checkKey()
	if err != nil {
		return nil, err
	}
	store, err := openStore(c.StateFile, c.EventsFile)
	if err != nil {
		return nil, err
	}
	devices, err := store.load()
	if err != nil {
		store.close()
		return nil, err
	}
	b := newBook(devices, c.Adopt)
	if err := store.resume(b, time.Now()); err != nil {
		store.close()
		return nil, err
	}
	return &Ingest{config: c, book: b, store: store, out: make(chan Received, queue), hint: hint}, nil
}

// Messages is what arrives, in order. It must be read, else listening stops;
// it is closed when Run ends.
func (i *Ingest) Messages() <-chan Received { return i.out }

// Connected says whether there has been a connection at all.
func (i *Ingest) Connected() bool { return i.heard.Load() }

// Run listens until ctx ends, and connects again whenever the connection is
// lost. It can be called once.
func (i *Ingest) Run(ctx context.Context) error {
	defer close(i.out)
	defer i.store.close()
	wait := firstRetry
	for ctx.Err() == nil {
		begun := time.Now()
		err := i.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errStore) || errors.Is(err, errVerifier) {
			return err
		}
		if time.Since(begun) > lastRetry {
			wait = firstRetry
		}
		i.config.Log.Warn("broker connection", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(wait)):
		}
		wait = min(2*wait, lastRetry)
	}
	return nil
}

// filter is the subscription of the configured tenant and device.
func (i *Ingest) filter() string {
	tenant, device := i.config.Tenant, i.config.Device
	if tenant == "" {
		tenant = "+"
	}
	if device == "" {
		device = "+"
	}
	return presence.Prefix + "/" + tenant + "/" + device + "/up/#"
}

func (i *Ingest) session(ctx context.Context) error {
	conn, err := mqtt.Connect(ctx, mqtt.Options{
		Broker: i.config.Broker, ClientID: i.config.ClientID, TLS: i.config.TLS,
		Backpressure: true, Queue: queue, Log: i.config.Log,
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Subscribe(ctx, i.filter()); err != nil {
		return err
	}
	defer func() { i.lost(time.Now().UTC()) }()
	i.heard.Store(true)
	i.config.Log.Info("listening", "broker", i.config.Broker, "filter", i.filter())
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	var answer <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return i.answer(ctx, conn)
		case <-conn.Done():
			return conn.Err()
		case m := <-conn.Messages():
			if err := i.take(ctx, conn, m); err != nil {
				return err
			}
			if answer == nil && i.book.dirty() {
				answer = time.After(i.config.Coalesce)
			}
		case <-answer:
			answer = nil
			if err := i.answer(ctx, conn); err != nil {
				return err
			}
		case now := <-tick.C:
			i.emit(ctx, i.book.lookForSilence(now.UTC()))
			if err := i.ask(ctx, now.UTC(), conn); err != nil {
				return err
			}
		}
	}
}

// take has the book judge a message, stores what was accepted and tells.
func (i *Ingest) take(ctx context.Context, conn *mqtt.Client, m mqtt.Message) error {
	now := time.Now().UTC()
	received, accepted := i.book.take(now, m)
	if accepted != nil {
		if err := i.store.append(accepted); err != nil {
			return err
		}
	}
	i.emit(ctx, received)
	i.emit(ctx, i.anchored(now, m, accepted))
	i.verify(ctx, now, m, received)
	return i.rotate(ctx, conn, received)
}

func (i *Ingest) emit(ctx context.Context, received []Received) {
	for _, r := range received {
		select {
		case i.out <- r:
		case <-ctx.Done():
			// The reader may have gone; what still fits is left for it.
			select {
			case i.out <- r:
			default:
			}
		}
	}
}
