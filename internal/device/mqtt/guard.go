package mqtt

import (
	"crypto"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Control packet types (MQTT 3.1.1, section 2.2.1) that a broker sends to a
// client which uses QoS 0 and 1 only and never unsubscribes.
const (
	packetConnack  = 2
	packetPublish  = 3
	packetPuback   = 4
	packetSuback   = 9
	packetPingresp = 13
)

// maxPacket bounds an incoming packet: a payload, its topic and packet id.
const maxPacket = MaxPayload + 2 + 1<<10 + 2

// floodTime is what Options.MaxIncoming is counted over.
const floodTime = time.Minute

// guard watches the packets that come in. paho reserves memory for whatever
// length a broker announces, up to 256 MiB, and trusts the broker's answers to
// fit its questions; guard ends the connection before paho sees such a packet.
type guard struct {
	net.Conn
	frame frame
	ended func(error) // told once, when reading has ended
	most  int         // messages that may come in floodTime; 0: any number
	heard uint64      // messages before the minute that runs
	since time.Time   // when it began

	mu  sync.Mutex
	err error
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	frameErr := g.frame.watch(p[:n])
	if frameErr == nil && g.most > 0 {
		frameErr = g.flood(time.Now())
	}
	if frameErr != nil {
		g.Conn.Close()
		n, err = 0, frameErr
	}
	if err != nil {
		g.end(err)
	}
	return n, err
}

// flood ends a connection on which messages come too fast: each costs an
// acknowledgement and a look.
func (g *guard) flood(now time.Time) error {
	if now.Sub(g.since) > floodTime {
		g.heard, g.since = g.frame.messages, now
	}
	if g.frame.messages-g.heard > uint64(g.most) {
		return broken("more than %d messages within %s", g.most, floodTime)
	}
	return nil
}

// Close also ends the connection for those who wait on it: paho closes it and
// then waits for handlers.
func (g *guard) Close() error {
	g.end(net.ErrClosed)
	return g.Conn.Close()
}

func (g *guard) end(err error) {
	g.mu.Lock()
	known := g.err != nil
	if !known {
		g.err = err
	}
	g.mu.Unlock()
	if !known {
		g.ended(err)
	}
}

// first is the error that reading ended with.
func (g *guard) first() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// frame follows the fixed headers of a stream of packets (section 2.2).
type frame struct {
	begun  bool // the first byte of the header was read
	kind   byte // it
	digits uint // bytes of the remaining length that were read
	length int  // remaining length
	left   int  // bytes of it that are still to come
	lead   int  // of a PUBLISH: bytes of its topic's length that are still to come
	topic  int  // its topic's length
	most   int  // longest payload, bytes; 0 for MaxPayload

	messages uint64 // PUBLISH packets that have begun
}

func (f *frame) watch(b []byte) error {
	for len(b) > 0 {
		if f.lead > 0 {
			f.topic = f.topic<<8 | int(b[0])
			b = b[1:]
			f.lead--
			f.left--
			if f.lead == 0 && f.topic > f.left-idLength(f.kind) {
				return broken("message of %d bytes with a topic of %d", f.length, f.topic)
			}
			continue
		}
		if f.left > 0 {
			n := min(f.left, len(b))
			f.left -= n
			b = b[n:]
			continue
		}
		c := b[0]
		b = b[1:]
		if !f.begun {
			f.begun, f.kind, f.digits, f.length = true, c, 0, 0
			continue
		}
		f.length |= int(c&0x7f) << (7 * f.digits)
		f.digits++
		if c&0x80 != 0 {
			if f.digits == 4 {
				return broken("length of more than 4 bytes")
			}
			continue
		}
		if err := checkPacket(f.kind, f.length, orDefault(f.most, MaxPayload)); err != nil {
			return err
		}
		if f.kind>>4 == packetPublish {
			f.messages++
			f.lead, f.topic = 2, 0
		}
		f.left, f.begun = f.length, false
	}
	return nil
}

// idLength is that of a message's packet id.
func idLength(header byte) int {
	if header>>1&3 > 0 {
		return 2
	}
	return 0
}

func checkPacket(header byte, length, payload int) error {
	want := -1
	switch kind := header >> 4; kind {
	case packetPublish:
		if header>>1&3 > qos {
			return broken("message with QoS %d", header>>1&3)
		}
		if most := payload + maxPacket - MaxPayload; length < 2 || length > most {
			return broken("message of %d bytes, want at most %d", length, most)
		}
		return nil
	case packetConnack, packetPuback:
		want = 2
	case packetSuback:
		want = 3 // the packet id, and one answer to the one filter of each request
	case packetPingresp:
		want = 0
	default:
		return broken("packet of type %d", kind)
	}
	if length != want {
		return broken("packet of type %d with %d bytes, want %d", header>>4, length, want)
	}
	return nil
}

// watchSigner tells when the client's own key fails: what crypto/tls returns
// then keeps only the error's text.
func watchSigner(c *tls.Config) (*tls.Config, *atomic.Pointer[error]) {
	failure := new(atomic.Pointer[error])
	c = c.Clone()
	certs := make([]tls.Certificate, len(c.Certificates))
	for i, cert := range c.Certificates {
		if s, ok := cert.PrivateKey.(crypto.Signer); ok {
			cert.PrivateKey = watchedSigner{s, failure}
		}
		certs[i] = cert
	}
	c.Certificates = certs
	return c, failure
}

type watchedSigner struct {
	crypto.Signer
	failure *atomic.Pointer[error]
}

func (s watchedSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := s.Signer.Sign(rand, digest, opts)
	if err != nil {
		s.failure.Store(&err)
	}
	return sig, err
}
